#include "../exec/exec.h"

typedef struct ctn_classes_args {
	int64_t n, classes;
	const float *logit, *teacher; // [n, classes]; teacher: or none; on a GPU logit and dlogit may hold bfloat16
	const int32_t *label;         // [n], negative: left out
	float *dlogit;                // [n, classes], or none
	float *row;                   // [n, 3]: loss, first, among the first five
	float *loss;                  // [1], in nats
	int32_t *count;               // [3]: images, first, among the first five
	float smoothing, weight, temperature, scale; // weight: the teacher's
} ctn_classes_args;

enum {
	CTN_CLASSES_TOP = 5,     // places that count as among the first
	CTN_CLASSES_ROWS = 8,    // rows a task
	CTN_CLASSES_BLOCK = 128, // GPU: threads a block, which has one row
};

// What logit i, of value v, puts before the label, whose logit is `mine`: 1 where it is larger, or equal and of a lower
// class, so that the first of equal logits is the answer as it is to argmax in PyTorch and NumPy. A row with a NaN has
// no order: its label is not even among the first.
CTN_FN int ctn_classes_before(int64_t i, float v, int64_t label, float mine) {
	return v != v ? (int)CTN_CLASSES_TOP : i < label ? v >= mine : v > mine;
}

extern const ctn_kernel ctn_classes[], ctn_classes_sum[];
