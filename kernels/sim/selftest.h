// The arguments of selftest.cu and broken.cu.
#ifndef CTN_SELFTEST_H
#define CTN_SELFTEST_H
#include <stdint.h>

typedef struct ctn_selftest_args {
	float *out;
	const float *x, *y;
	int32_t m, n, k;
} ctn_selftest_args;

typedef struct ctn_selftest_ints {
	int32_t *out;
	int32_t n;
} ctn_selftest_ints;

#endif
