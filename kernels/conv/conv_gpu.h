// What the kernels of conv.cu and conv_weight.cu get. Channels of a group count from the tensors' first channels:
// groups lie beside each other.
#ifndef CTN_CONV_GPU_H
#define CTN_CONV_GPU_H
#include "../tensor/tensor.h"

// Sizes are those of the forward direction: the input is h x w, the output ho x wo. What lies outside is zero.
typedef struct ctn_conv_geometry {
	int32_t n, h, w, ho, wo;
	int32_t kh, kw, stride_h, stride_w, pad_h, pad_w, dilation;
	int32_t depth, cols; // of a group: channels read and written; in the weight's gradient channels of the input and of
	                     // the output
	int32_t weight_ld, tap_ld; // elements from a row of the weight, or of its gradient, to the next, and from a tap
} ctn_conv_geometry;

typedef struct ctn_conv_gpu_args {
	ctn_conv_geometry at;
	int32_t rows;       // pixels written
	int32_t tiles;      // tiles of rows that a block computes one after the other; their sums are a part
	ctn_input in;       // forward
	ctn_gradient grad;  // transposed: the gradient in the input reads pixels of the output, writes those of the input
	const void *packed; // the weight as pack.h has it; not of conv_point.cu
	// of conv_point.cu: the weight [C in, C out] as it lies, at the distance of `at`, and the columns of a tile
	const float *weight;
	int32_t tile_cols;
	// forward
	const float *bias; // [C out], or none
	void *z;           // [n, ho, wo, C out], pixels ld elements apart
	int64_t ld;
	float *stats; // [parts, 3, stats_ld], or none
	int64_t stats_ld;
	const ctn_norm *norm; // what is made of them
	// transposed
	ctn_sink sink;
} ctn_conv_gpu_args;

// A gradient in a weight.
typedef struct ctn_conv_weight_gpu {
	ctn_conv_geometry at;
	int32_t pixels; // of the output
	int32_t split;  // of them in a split
	int32_t splits;
	int32_t accumulate;
	int32_t tiles;    // of columns
	int32_t apart[3]; // images, rows and columns between the pixels that a thread reads one after the other
	int64_t len;      // of the weight
	ctn_input in;
	ctn_gradient grad;
	float *dweight; // [taps, C in of a group, C out], at the distances of `at`
	float *partial; // [splits, len], dense, when splits > 1
	int32_t out;    // C out
} ctn_conv_weight_gpu;

enum { CTN_CONV_WEIGHTS = 8 }; // gradients in weights that a launch makes, at most

// The blocks of a launch that makes several of them: of each in turn tiles, which run fastest, groups and splits.
typedef struct ctn_conv_weight_blocks {
	int32_t count;
	int32_t first[CTN_CONV_WEIGHTS], tiles[CTN_CONV_WEIGHTS], groups[CTN_CONV_WEIGHTS];
} ctn_conv_weight_blocks;

typedef struct ctn_conv_weight_gpu_args {
	ctn_conv_weight_gpu all[CTN_CONV_WEIGHTS];
	ctn_conv_weight_blocks blocks;
} ctn_conv_weight_gpu_args;

enum {
	CTN_CONV_GPU_BLOCK = 256,
	CTN_CONV_GPU_ROWS = 128,    // of a tile
	CTN_CONV_GPU_STEP_F32 = 16, // channels of a step, and pixels of one in the weight's gradient
	CTN_CONV_GPU_STEP_BF16 = 32,
	CTN_CONV_GPU_PLAIN_STEP = 64,  // of conv_plain.cu
	CTN_CONV_GPU_PLAIN_STAGES = 3, // steps in shared memory there
	CTN_CONV_GPU_POINT_COLS = 64, // most columns of a tile of conv_point.cu
	CTN_CONV_GPU_POINT_STEPS = 4, // most steps there, of as many channels
	CTN_CONV_GPU_LANES_F32 = 4, // numbers in 16 bytes: taps begin at multiples of them
	CTN_CONV_GPU_LANES_BF16 = 8,
	CTN_CONV_GPU_COLS_F32 = 64, // of a tile of float32
	// bytes of two steps of the left side there, or of the results: bfloat16 forward, float32 backward
	CTN_CONV_GPU_POINT_LEFT = 2 * CTN_CONV_GPU_ROWS * CTN_CONV_GPU_PLAIN_STEP * 2,
	CTN_CONV_GPU_POINT_RESULTS = CTN_CONV_GPU_ROWS * (CTN_CONV_GPU_POINT_COLS + 4) * 4,
};

#endif
