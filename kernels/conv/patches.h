// What patches.cu gets.
#ifndef CTN_CONV_PATCHES_H
#define CTN_CONV_PATCHES_H
#include "../exec/exec.h"
#include "conv_gpu.h"

// The pixels that each pixel of a convolution's output is made of, side by side.
typedef struct ctn_conv_patches_args {
	ctn_conv_geometry at; // `depth` channels of an image
	const float *images;  // [n, h, w, depth]
	void *out;            // bfloat16, [n ho wo, width], zeros behind the kh kw depth numbers
	int32_t pixels;       // n ho wo
	int32_t width;        // a multiple of eight
} ctn_conv_patches_args;

enum {
	CTN_CONV_PATCHES_BLOCK = 256,
	CTN_CONV_PATCHES_EACH = 8, // vectors that a thread writes
};

#endif
