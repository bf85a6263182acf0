#include "../tensor/tensor.h"

enum { CTN_SUM_TERMS = 8,
       CTN_SUM_PIXELS = 16 }; // at a time

typedef struct ctn_sum_args {
	int64_t pixels, image, c, block, terms;
	int64_t groups; // GPU: vectors of channels a block
	ctn_input in[CTN_SUM_TERMS];
	const float *weight[CTN_SUM_TERMS]; // one an image, or none
	float *out;
	int64_t out_ld;
	float *stats; // or none
	// backward
	const float *grad;
	int64_t grad_ld;
	const float *gate, *mean; // images x c, or none
	ctn_sink sink[CTN_SUM_TERMS];
} ctn_sum_args;

typedef struct ctn_gate_args {
	int64_t n, image, c;
	int64_t groups; // GPU: vectors of channels a block
	ctn_input in;
	const float *grad;
	int64_t grad_ld;
	float *dgate; // n x c
} ctn_gate_args;

typedef struct ctn_shuffle_args {
	int64_t pixels, c, groups, block;
	int64_t lanes; // GPU: vectors of channels a block
	ctn_input in;
	float *out;
	const float *grad;
	ctn_sink sink;
} ctn_shuffle_args;

typedef struct ctn_droppath_args {
	int64_t n;
	float *out;
	float keep;
	const float *rate; // multiplies the probability of a drop, or none
	uint64_t seed;
	uint32_t stream;
	const int32_t *step;
} ctn_droppath_args;

enum { CTN_GATE_CHANNELS = 256 }; // channels a task
extern const ctn_kernel ctn_sum[], ctn_sum_backward[], ctn_gate_gradient[], ctn_shuffle[], ctn_shuffle_backward[], ctn_droppath[];
