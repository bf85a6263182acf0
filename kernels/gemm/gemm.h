#include "../exec/exec.h"

typedef struct ctn_gemm_args {
	ctn_dim m;      // rows of c; gemm_tn: rows of a and b, which are summed over
	int64_t n, k;   // c is [m, n], k is summed over; gemm_tn: c is [k, n]
	const float *a; // [m, k]
	const float *b; // [k, n], or [n, k] when trans_b
	float *c;       // [m, n]; gemm_tn: [k, n]
	float *packed;  // CPU: gemm_pack's output, column panels of b, each [k, 2 vectors]
	float *parts;   // GPU, gemm_tn: [splits, k, n]
	int64_t split;  // GPU, gemm_tn: rows a split
	int32_t trans_b, accumulate;
} ctn_gemm_args;

extern const ctn_kernel ctn_gemm_pack[], ctn_gemm[], ctn_gemm_tn[];
enum { CTN_GEMM_TN_ROWS = 256 }; // CPU: rows of b copied to scratch at a time
enum {
	CTN_GEMM_TILE = 64, // GPU: a block computes a square of c
	CTN_GEMM_F32_BLOCK = 256,
	CTN_GEMM_BF16_BLOCK = 128,
	CTN_GEMM_SUM_BLOCK = 256
};
