#include "../tensor/tensor.h"

typedef struct ctn_pool_args {
	int64_t n, h, w, c, ho, wo; // N, H, W, C, and height and width of the output
	int64_t k, stride, pad;     // pixels
	int64_t block;              // pixels a task; of the output, backward of the input
	int64_t groups;             // GPU: vectors of channels a block
	int32_t average;            // or the maximum
	int32_t count_pad;
	ctn_input in;
	float *out;  // [N, HO, WO, C]
	int8_t *arg; // [N, HO, WO, arg_ld]: the maximum's pixel in its window
	int64_t arg_ld;
	const float *grad; // [N, HO, WO, C]: the gradient in the output; of a global mean [N, C]
	ctn_sink sink;
} ctn_pool_args;

extern const ctn_kernel ctn_pool[], ctn_pool_backward[], ctn_pool_global[], ctn_pool_global_backward[];
