// The arguments of selftest_hopper.cu and broken_hopper.cu.
#ifndef CTN_SELFTEST_HOPPER_H
#define CTN_SELFTEST_HOPPER_H
#include "../exec/cuda.cuh"
#include "../exec/hopper.h"

typedef struct ctn_selftest_hopper_args {
	ctn_image_map map;
	float *out;
	const bf16 *x, *y;
	int32_t m, n, k, c, pixels;
} ctn_selftest_hopper_args;

#endif
