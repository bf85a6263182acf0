#include "../tensor/tensor.h"

typedef struct ctn_pool_args {
	int64_t n, h, w, c, ho, wo; // c: channels
	int64_t k, stride, pad;
	int64_t block;   // pixels a task; of the output, backward of the input
	int64_t groups;  // GPU: vectors of channels a block
	int32_t average; // or the maximum
	int32_t count_pad;
	ctn_input in;
	float *out; // dense
	int8_t *arg; // the maximum's place in its window, rows of arg_ld
	int64_t arg_ld;
	const float *grad; // dense, the gradient in the output
	ctn_sink sink;
} ctn_pool_args;

extern const ctn_kernel ctn_pool[], ctn_pool_backward[], ctn_pool_global[], ctn_pool_global_backward[];
