#include "../exec/exec.h"

typedef struct ctn_mixup_args {
	int64_t n, classes;
	const float *logit;             // n x classes
	const int32_t *label, *partner; // n; a negative label is left out
	const float *weight;            // of the label
	float *dlogit;                  // or none
	float *loss;
	float share;
} ctn_mixup_args;

extern const ctn_kernel ctn_mixup[];
