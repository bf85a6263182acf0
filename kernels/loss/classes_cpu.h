#include "../exec/exec.h"

typedef struct ctn_classes_args {
	int64_t n, classes;
	const float *logit, *teacher; // n x classes; teacher: or none; on a GPU logit and dlogit may hold bfloat16
	const int32_t *label;         // n, negative: left out
	float *dlogit;                // or none
	float *row;                   // n x 3: loss, first, among the first five
	float *loss;
	int32_t *count; // images, first, among the first five
	float smoothing, weight, temperature, scale; // weight: the teacher's
} ctn_classes_args;

enum { CTN_CLASSES_ROWS = 8,     // rows a task
       CTN_CLASSES_BLOCK = 128 }; // GPU: threads a block, which has one row
extern const ctn_kernel ctn_classes[], ctn_classes_sum[];
