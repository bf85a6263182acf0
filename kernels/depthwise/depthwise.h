#include "../tensor/tensor.h"

typedef struct ctn_depthwise_args {
	int64_t n, h, w, c, ho, wo; // N, H, W, C, and height and width of the output
	int64_t k, stride, pad_h, pad_w, dilation;
	int64_t channels;                            // a task
	int64_t bands, band;                         // bands an image; rows a band: of the output, backward of the input
	int64_t in_ld, out_rows, out_left, out_cols; // planes in scratch: columns of the input's; rows, zeros to the left
	                                             // and columns of the gradient's
	ctn_input in;
	const float *weight; // [k, k, C]
	float *out;          // [N, HO, WO, C], pixels out_ld elements apart
	int64_t out_ld;
	float *stats;         // [parts, 3, C], or none
	const ctn_norm *norm; // GPU: what is made of them
	// backward
	ctn_gradient grad;
	ctn_sink sink;
	float *dweight, *partial; // [k, k, C]; [parts, k, k, C]
	int32_t accumulate;
	// GPU: strips of columns a block, columns a tile, tiles a row, blocks that share the channels, images a block,
	// parts of the weight's gradient; for what goes pixel by pixel the vectors of channels and the pixels a block
	int64_t strips, tile, tiles, chunks, images, parts;
	int64_t groups, block, weight_block;
} ctn_depthwise_args;

enum {
	CTN_DEPTHWISE_STRIP = 4,     // outputs side by side in registers
	CTN_DEPTHWISE_SIZE = 7,      // largest kernel
	CTN_DEPTHWISE_THREADS = 128, // GPU: threads a block
};
extern const ctn_kernel ctn_depthwise[], ctn_depthwise_backward[], ctn_depthwise_reduce[];
