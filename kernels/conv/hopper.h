// What the kernels of hopper.cu and hopper_weight.cu get.
#ifndef CTN_CONV_HOPPER_H
#define CTN_CONV_HOPPER_H
#include "../exec/hopper.h"
#include "../tensor/tensor.h"
#include "conv_gpu.h"

// A convolution with stride 1, forward, or the gradient in its input, which is one with the taps turned around.
typedef struct ctn_conv_hopper_args {
	ctn_image_map of;      // of the tensor that is read, whose box has the size of what is written
	int32_t rows, h, w;    // pixels written, of images of h x w
	int32_t top, left;     // the pixel that pixel (0, 0) reads at tap (0, 0)
	int32_t kh, kw;        // taps
	int32_t depth, chunks; // channels read, and how many times 64 that is
	int32_t cols, across;  // channels written, and their tiles
	int32_t tiles;         // of rows, that a block computes one after the other; their sums are a part
	const void *packed;    // the weight, CTN_PACK_SWIZZLED (pack.h), a chunk of a tap a step
	const float *bias;     // [C out], or none
	void *z;               // forward: [n, h, w, C out], pixels ld elements apart
	int64_t ld;
	float *stats; // [parts, 3, stats_ld], or none
	int64_t stats_ld;
	const ctn_norm *norm; // what is made of them
	ctn_sink sink;        // of the gradient in the input
} ctn_conv_hopper_args;

// The gradient in its weight. The boxes of both maps have the size of the output.
typedef struct ctn_conv_weight_hopper {
	ctn_image_map x, dz;
	int32_t pixels, h, w;      // of the output, whose images are h x w
	int32_t top, left;         // the pixel of the input that pixel (0, 0) reads at tap (0, 0)
	int32_t kh, kw;            // taps
	int32_t depth, chunks;     // channels of the input, and how many times 64 that is
	int32_t cols, across;      // channels of the output, and their tiles
	int32_t split, splits;     // pixels of a split, a multiple of CTN_HOPPER_STEP
	int32_t accumulate;        // to what dweight holds
	int32_t apart[3];          // images, rows and columns from a step's first pixel to the next one's
	int32_t weight_ld, tap_ld; // elements from a row of dweight to the next, and from a tap
	int64_t len;               // of the weight
	float *dweight;            // [taps, C in, C out]
	float *partial;            // [splits, len], dense, when splits > 1
} ctn_conv_weight_hopper;

typedef struct ctn_conv_weight_hopper_args {
	ctn_conv_weight_hopper all[CTN_CONV_WEIGHTS];
	ctn_conv_weight_blocks blocks;
} ctn_conv_weight_hopper_args;

enum {
	CTN_HOPPER_STEP = 64,                               // pixels of a step of the weight's gradient
	CTN_HOPPER_LARGE = 40000,                           // bytes of a stage of which there are three and not four
	CTN_HOPPER_CONSUMERS = 2,                           // warpgroups that multiply, 64 rows of a tile each, or 128
	CTN_HOPPER_BLOCK = 128 * CTN_HOPPER_CONSUMERS + 32, // a warp more brings what they read
	CTN_HOPPER_BOX = 128,                               // pixels that a copy brings
	CTN_HOPPER_PITCH = 64 + 4,                          // floats of a row of results on their way out
	CTN_HOPPER_RESULTS = CTN_HOPPER_CONSUMERS * 64 * CTN_HOPPER_PITCH * 4, // bytes
};

#endif
