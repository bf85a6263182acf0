#include "graph.h"

enum { CTN_LAYER_TASK = 64, // CPU: rows a task
       CTN_LAYER_BLOCK = 256,
       CTN_LAYER_HEADS = 2,
       CTN_LAYER_WIDTH = 256 };

// On a GPU in bf16 the buffers of no type hold bf16, otherwise float.
typedef struct ctn_layer_args {
	ctn_dim rows;
	int32_t width, heads, relu;
	int32_t first;                    // what the numbers in idx and self begin with: row 0 of in and below
	const float *table;               // the rows themselves; then ptr, idx, self, in and below are none
	const int32_t *ptr, *idx, *self;  // row r hears in[self[r]] and in[idx[e]] for ptr[r] <= e < ptr[r+1]
	const void *in;                   // products of the rows below
	const void *below;                // the rows below, for the residual; or none
	const float *bias;                // width, or none
	void *kept;                       // rows x width: the rows; or none
	const float *matrix;              // width x width: the products' matrix; or none
	void *out;                        // rows x width: products
	const float *head;                // heads x width, or none
	float *score;                     // rows x heads
	void *rounded;                    // GPU, bf16: the matrix
} ctn_layer_args;

extern const ctn_kernel ctn_layer[];
