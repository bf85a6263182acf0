#include "../tensor/tensor.h"

typedef struct ctn_batchnorm_args {
	int64_t c, parts;
	const float *stats;     // parts x 3 c; backward: parts x 2 c
	const int32_t *count;   // pixels of each part
	const float *gamma, *beta; // or none: 1 and 0
	float *running_mean, *running_var, *mean, *invstd, *scale, *shift;
	float *dgamma, *dbeta; // or none
	float *p, *q, *r;
	int32_t *batches; // or none: batches averaged
	double eps, momentum;
	int32_t frozen, accumulate;
} ctn_batchnorm_args;

enum { CTN_NORM_CHANNELS = 64, // channels a task
       CTN_NORM_BLOCK = 512,   // GPU: threads a block
       CTN_NORM_LANES = 8 };   // GPU: channels a block
extern const ctn_kernel ctn_batchnorm[], ctn_batchnorm_fixed[], ctn_batchnorm_backward[], ctn_batchnorm_count[];
