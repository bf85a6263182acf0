// What batch norm makes of the sums that other operations leave: package norm's operations, or on an accelerator the
// operation that leaves the sums (norm.cuh).
#ifndef CTN_TENSOR_NORM_H
#define CTN_TENSOR_NORM_H
#include <stdint.h>

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

// In an accelerator's memory, where the operation that leaves the sums finds it.
typedef struct ctn_norm {
	ctn_batchnorm_args of; // without parts: nothing is made of the sums
	int32_t together;      // parts of a group, which is added up first
	int32_t *tickets;      // [blocks that share the channels, groups + 1]: 0 between launches
	double *sums;          // [groups, 4, C], where there are several groups
} ctn_norm;

#endif
