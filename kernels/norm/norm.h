#include "../tensor/norm.h"
#include "../tensor/tensor.h"

enum {
	CTN_NORM_CHANNELS = 64, // channels a task
	CTN_NORM_BLOCK = 512,   // GPU: threads a block
	CTN_NORM_LANES = 8,     // GPU: channels a block
};
extern const ctn_kernel ctn_batchnorm[], ctn_batchnorm_fixed[], ctn_batchnorm_backward[], ctn_batchnorm_count[];
