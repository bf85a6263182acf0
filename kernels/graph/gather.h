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

typedef struct ctn_colsum_args {
	ctn_dim rows;
	int64_t width;
	const float *in; // rows x width
	float *out;      // width
	int32_t accumulate;
	int64_t split; // GPU: rows a split
	float *parts;  // GPU: splits x width
} ctn_colsum_args;

typedef struct ctn_rowdot_args {
	ctn_dim rows;
	int64_t width, heads;
	const float *in, *weight; // rows x width, heads x width
	float *out;               // rows x heads
	const float *grad;        // rows x heads
	const float *mask;        // rows x width or none
	float *dinput;            // rows x width
	int32_t accumulate;
} ctn_rowdot_args;

extern const ctn_kernel ctn_gather[], ctn_colsum[], ctn_rowdot[], ctn_rowdot_backward[];
// GPU: what a block covers at most.
enum { CTN_GATHER_ROWS = 8,
       CTN_GATHER_COLUMNS = 128,
       CTN_COLSUM_COLUMNS = 32 };
