#include "../tensor/tensor.h"
#include <string.h>

// Where a convolution's taps lie. Sizes are those of the forward direction: the input is h x w, the output ho x wo.
typedef struct ctn_window {
	int64_t n, h, w, ho, wo;
	int64_t kh, kw, stride_h, stride_w;
	int64_t pad_h, pad_w; // a negative padding leaves out rows or columns of the input
	int64_t dilation;
} ctn_window;

typedef struct ctn_conv_args {
	ctn_window at;
	int32_t transposed;  // the gradient in the input: reads pixels of the output, writes those of the input
	int32_t mode;        // how the tensor that is read is brought near
	int64_t depth;       // channels read
	int64_t cols;        // channels written
	int64_t block;       // rows (pixels written) a task
	int64_t slice;       // columns (channels written) a task
	int64_t chunk;       // channels read at a time
	int64_t near;        // floats of scratch for the tensor that is read
	ctn_input in;        // forward
	ctn_gradient grad;   // transposed
	const float *weight; // [taps, C in, C out], taps tap_ld and rows weight_ld apart
	int64_t weight_ld, tap_ld;
	float *packed; // column panels of the weight, each [taps, depth, 2 vectors]
	// forward
	const float *bias; // [C out], or none
	float *out;        // [n, ho, wo, C out], pixels out_ld elements apart
	int64_t out_ld;
	float *stats; // [tasks, 3, stats_ld], or none
	int64_t stats_ld;
	// transposed
	ctn_sink sink;
} ctn_conv_args;

enum {
	CTN_CONV_PLACE,  // read where it is
	CTN_CONV_GATHER, // the taps of a row are copied side by side
	CTN_CONV_BAND,   // all pixels that a task's rows touch are copied
};

typedef struct ctn_conv_weight_args {
	ctn_window at;
	int32_t mode, accumulate;
	int64_t depth, cols;
	int64_t splits;           // of the rows, each with a sum of its own
	int64_t block_c, block_j; // channels of the input and of the output a task (not Winograd)
	int64_t near;
	ctn_input in;
	ctn_gradient grad;
	float *dweight; // [taps, depth, cols], taps tap_ld and rows weight_ld apart
	int64_t weight_ld, tap_ld;
	float *partial; // [splits, taps, depth, cols], when splits > 1; Winograd: [splits, 16, depth, cols]
} ctn_conv_weight_args;

enum {
	CTN_CONV_ROWS = 192,                      // rows that a weight's gradient sums at a time
	CTN_CONV_DEPTH = 128,                     // channels of the input a task of the weight's gradient, Winograd
	CTN_CONV_COLS = 128,                      // channels of the output a task of the weight's gradient, Winograd
	CTN_CONV_GATHERED = 256,                  // most floats of a gathered row
	CTN_CONV_TILES = 4,                       // tiles before their results are stored
	CTN_CONV_TILE = CTN_CONV_TILES * 12 * 32, // floats of that many of the largest tile
};

enum {
	CTN_WINOGRAD_TILES = 48,  // tiles a task
	CTN_WINOGRAD_CHUNK = 128, // channels read at a time
	CTN_WINOGRAD_COLS = 128,  // channels written a task
	CTN_WINOGRAD_PACK = 32,   // channels of a panel that are packed at a time
};

static const float ctn_conv_zeros[CTN_CONV_GATHERED + 16]; // what a pixel outside the image holds

extern const ctn_kernel ctn_winograd_pack[], ctn_winograd[], ctn_winograd_weight[], ctn_winograd_reduce[];
extern const ctn_kernel ctn_conv_pack[], ctn_conv[], ctn_conv_weight[], ctn_conv_reduce[];

// How many pixels from the first to the last that a task of `block` rows reads, at most.
int64_t ctn_conv_band(const ctn_window *at, int transposed, int64_t block);
