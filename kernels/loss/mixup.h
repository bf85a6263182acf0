#include "../exec/exec.h"

typedef struct ctn_mixup_args {
	int64_t n, classes;
	const float *logit;             // [n, classes]; on a GPU logit and dlogit may hold bfloat16
	const int32_t *label, *partner; // [n]; a negative label is left out
	const float *weight;            // [1]: the share of the label
	float *dlogit;                  // [n, classes], or none
	float *loss;                    // [1]
	float share;
} ctn_mixup_args;

enum { CTN_MIXUP_BLOCK = 256 }; // GPU: threads of the one block
extern const ctn_kernel ctn_mixup[];
