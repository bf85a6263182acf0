// Which of the gradients in weights that a launch makes a block works on.
#ifndef CTN_CONV_WEIGHTS_CUH
#define CTN_CONV_WEIGHTS_CUH
#include "../exec/cuda.cuh"
#include "conv_gpu.h"

struct weight_block {
	int job, tile, group, split;
	__device__ __forceinline__ explicit weight_block(const ctn_conv_weight_blocks &g) {
		const int block = late(blockIdx.x); // so that it can be found again where a kernel has few registers
		job = 0;
#pragma unroll 1
		while (job + 1 < g.count && g.first[job + 1] <= block) job++;
		const int at = block - g.first[job], line = at / g.tiles[job];
		tile = at - line * g.tiles[job], split = line / g.groups[job], group = line - split * g.groups[job];
	}
};

#endif
