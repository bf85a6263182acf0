#include "../tensor/tensor.h"

typedef struct ctn_batchnorm_args {
	int64_t c, parts;
	const float *stats;                   // [parts, 3, C]; backward [parts, 2, C]
	const int32_t *count;                 // [parts]: pixels
	const float *gamma, *beta;            // [C], or none: 1 and 0
	float *running_mean, *running_var;    // [C]
	float *mean, *invstd, *scale, *shift; // [C]
	float *dgamma, *dbeta;                // [C], or none
	float *p, *q, *r;                     // [C]
	int32_t *batches;                     // [1]: batches averaged; or none
	double eps, momentum;
	int32_t frozen, accumulate, biased;
} ctn_batchnorm_args;

enum {
	CTN_NORM_CHANNELS = 64, // channels a task
	CTN_NORM_BLOCK = 512,   // GPU: threads a block
	CTN_NORM_LANES = 8,     // GPU: channels a block
};
extern const ctn_kernel ctn_batchnorm[], ctn_batchnorm_fixed[], ctn_batchnorm_backward[], ctn_batchnorm_count[];
