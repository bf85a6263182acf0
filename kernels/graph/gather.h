#include "graph.h"

typedef struct ctn_gather_args {
	ctn_dim rows;
	int64_t width;
	const int32_t *ptr, *idx; // [rows + 1], [edges]: row r sums in[idx[e]] for ptr[r] <= e < ptr[r+1]
	const float *weight;      // [edges]: factors, or none
	const float *in;          // [any, width]
	const float *bias;        // [width], or none
	const float *add;         // [any, width], added after the sum: row add_idx[r], or row r; or none
	const int32_t *add_idx;   // [rows], or none
	const float *mask;        // [rows, width]: the result is kept where mask > 0; or none
	float *out;               // [rows, width]
	int32_t relu, accumulate;
	int32_t block_rows; // GPU: rows a block
} ctn_gather_args;

extern const ctn_kernel ctn_gather[];
// GPU: what a block covers at most.
enum { CTN_GATHER_ROWS = 8, CTN_GATHER_COLUMNS = 128 };
