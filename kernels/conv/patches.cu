// Images for a convolution of few channels, a network's first: for each pixel of its output the pixels that it reads,
// side by side, rounded to bfloat16. The convolution is then one of a single tap whose channels fill vectors, and its
// weight, [taps, channels, columns], is that one's as it lies.
#include "../exec/cuda.cuh"
#include "patches.h"

// Grid: of vectors of eight numbers, which run fastest, and pixels CTN_CONV_PATCHES_EACH times the block. A thread's
// vectors are of the same place in their pixels.
CTN_ENTRY(cu_conv_patches, const ctn_conv_patches_args g, CTN_CONV_PATCHES_BLOCK) {
	const ctn_conv_geometry &a = g.at;
	const int vectors = g.width / 8, apart = CTN_CONV_PATCHES_BLOCK / vectors, vector = threadIdx.x % vectors,
	          strip = (int)threadIdx.x / vectors;
	if (strip >= apart) return;
	int dy[8], dx[8], c[8]; // of each number; a row far outside where there is none
#pragma unroll
	for (int i = 0; i < 8; i++) {
		const int number = vector * 8 + i, tap = number / a.depth, ky = tap / a.kw;
		c[i] = number - tap * a.depth;
		dy[i] = ky < a.kh ? ky * a.dilation - a.pad_h : -(1 << 28);
		dx[i] = (tap - ky * a.kw) * a.dilation - a.pad_w;
	}
	for (int i = 0; i < CTN_CONV_PATCHES_EACH; i++) {
		const int pixel = (blockIdx.x * CTN_CONV_PATCHES_EACH + i) * apart + strip;
		if (pixel >= g.pixels) return;
		const int line = pixel / a.wo, image = line / a.ho, y0 = (line - image * a.ho) * a.stride_h,
		          x0 = (pixel - line * a.wo) * a.stride_w;
		float v[8];
#pragma unroll
		for (int j = 0; j < 8; j++) {
			const int y = y0 + dy[j], x = x0 + dx[j];
			v[j] = 0.0f;
			if ((unsigned)y < (unsigned)a.h && (unsigned)x < (unsigned)a.w)
				v[j] = g.images[(int64_t)((image * a.h + y) * a.w + x) * a.depth + c[j]];
		}
		*(uint4 *)((bf16 *)g.out + (int64_t)pixel * g.width + vector * 8) =
		        make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
	}
}
