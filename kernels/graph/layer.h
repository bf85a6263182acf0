#include "graph.h"

enum {
	CTN_LAYER_TASK = 64, // CPU: rows a task
	CTN_LAYER_BLOCK = 256,
	CTN_LAYER_HEADS = 2,
	CTN_LAYER_WIDTH = 256
};

// On a GPU in bf16 the buffers of no type hold bf16, otherwise float.
typedef struct ctn_layer_args {
	ctn_dim rows;
	int32_t width, heads, relu;
	int32_t first;      // what the numbers in idx and self begin with: row 0 of in and own
	const float *table; // [rows, width]: the rows themselves; then ptr, idx, self, in and own are none
	// Row r sums own[self[r]] and in[idx[e]] for ptr[r] <= e < ptr[r+1].
	const int32_t *ptr, *idx, *self; // [rows + 1], [edges], [rows]
	const void *in, *own;            // [rows below, width]
	const float *bias;               // [width], or none
	const float *matrix;             // [width, width], or none
	void *out;                       // [rows, width]: products
	void *out_own;                   // [rows, width]: products and rows added; or none
	const float *head;               // [heads, width], or none
	float *score;                    // [rows, heads]
	void *rounded;                   // GPU, bf16: [width, width], the matrix
} ctn_layer_args;

extern const ctn_kernel ctn_layer[];
