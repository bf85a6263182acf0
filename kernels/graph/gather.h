#include "graph.h"

typedef struct ctn_gather_args {
	ctn_dim rows;
	int64_t width;
	const int32_t *ptr, *idx; // row r sums in[idx[e]] for ptr[r] <= e < ptr[r+1]
	const float *weight;      // an edge's factor, or none
	const float *in;
	const float *bias; // width, or none
	const float *add;  // added after the sum: row add_idx[r], or row r; or none
	const int32_t *add_idx;
	const float *mask; // rows x width: the result is kept where mask > 0; or none
	float *out;        // rows x width
	int32_t relu, accumulate;
	int32_t block_rows; // GPU: rows a block
} ctn_gather_args;

extern const ctn_kernel ctn_gather[];
// GPU: what a block covers at most.
enum { CTN_GATHER_ROWS = 8,
       CTN_GATHER_COLUMNS = 128 };
