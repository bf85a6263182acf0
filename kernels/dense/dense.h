// What the kernels of this family get.
#ifndef CTN_DENSE_H
#define CTN_DENSE_H
#include "../exec/exec.h"

enum {
	CTN_DENSE_BLOCK = 256,   // GPU: threads a block
	CTN_DENSE_ROWS = 64,     // CPU: rows a task of Dense; dropout needs as many rows of scratch
	CTN_COLSUM_COLUMNS = 32, // columns a task, or a block
};

typedef struct ctn_dense_args {
	ctn_dim rows;
	int64_t width;
	float *out;                    // [rows, width]
	const float *in, *bias, *grad; // [rows, width]; [width], or none; [rows, width]
	float keep;                    // 1 - the rate of dropout
	int32_t relu;
	uint64_t seed;
	uint32_t stream;
	const int32_t *step; // [1]: updates done
} ctn_dense_args;

typedef struct ctn_colsum_args {
	ctn_dim rows;
	int64_t width;
	const float *in; // [rows, width]
	float *out;      // [width]
	int32_t accumulate;
	int64_t split; // GPU: rows a split
	float *parts;  // GPU: [splits, width]
} ctn_colsum_args;

typedef struct ctn_rowdot_args {
	ctn_dim rows;
	int64_t width, heads;
	const float *in, *weight; // [rows, width], [heads, width]
	float *out;               // [rows, heads]
	const float *grad;        // [rows, heads]
	const float *mask;        // [rows, width], or none
	float *dinput;            // [rows, width]
	int32_t accumulate;
} ctn_rowdot_args;

extern const ctn_kernel ctn_dense[], ctn_dense_backward[], ctn_colsum[], ctn_rowdot[], ctn_rowdot_backward[];

#endif
