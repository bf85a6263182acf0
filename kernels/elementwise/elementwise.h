#include "../tensor/tensor.h"

enum { CTN_SUM_TERMS = 8, CTN_SUM_PIXELS = 16 }; // at a time

typedef struct ctn_sum_args {
	int64_t pixels, image, c; // N H W; H W; C
	int64_t block;            // pixels a task
	int64_t terms;
	int64_t groups; // GPU: vectors of channels a block
	ctn_input in[CTN_SUM_TERMS];
	const float *weight[CTN_SUM_TERMS]; // [N], or none
	const float *scalar[CTN_SUM_TERMS]; // [1], or none
	float *out;                         // [N, H, W, C], pixels out_ld elements apart
	int64_t out_ld;
	int32_t apart; // CPU: a term behind the first reads out, which is written once all are added up
	float *stats;         // [parts, 3, C], or none
	const ctn_norm *norm; // GPU: what is made of them
	// backward
	const float *grad; // [N, H, W, C], pixels grad_ld elements apart
	int64_t grad_ld;
	const float *gate, *mean; // [N, C], or none
	ctn_sink sink[CTN_SUM_TERMS];
} ctn_sum_args;

typedef struct ctn_mix_args {
	int64_t pixels, c;
	int64_t block;  // pixels a task
	int64_t terms;
	int64_t groups; // GPU: vectors of channels a block
	ctn_input in[CTN_SUM_TERMS];
	const float *grad; // [N, H, W, C], pixels grad_ld elements apart
	int64_t grad_ld;
	int64_t parts;
	float *partial; // [parts, CTN_SUM_TERMS]: sums of a task or a block
	float *out;     // [terms]
} ctn_mix_args;

typedef struct ctn_gate_args {
	int64_t n, image, c; // N; H W; C
	int64_t groups;      // GPU: vectors of channels a block
	ctn_input in;
	const float *grad; // [N, H, W, C], pixels grad_ld elements apart
	int64_t grad_ld;
	float *dgate; // [N, C]
	ctn_sink sink; // GPU: where it goes instead, without sums
} ctn_gate_args;

typedef struct ctn_shuffle_args {
	int64_t pixels, c, groups; // N H W; C; groups of channels
	int64_t block;             // pixels a task
	int64_t lanes;             // GPU: vectors of channels a block
	ctn_input in;
	float *out;        // [N, H, W, C]
	const float *grad; // [N, H, W, C]
	ctn_sink sink;
} ctn_shuffle_args;

typedef struct ctn_droppath_args {
	int64_t n;         // images
	float *out;        // [N]: 1/k or 0
	float keep;        // the probability that an image is kept
	const float *rate; // [1]: multiplies the probability of a drop, or none
	uint64_t seed;
	uint32_t stream;
	const int32_t *step; // [1]: updates done
} ctn_droppath_args;

typedef struct ctn_zero_args {
	int64_t n;
	float *out; // [n]
} ctn_zero_args;

enum { CTN_ZERO_BLOCK = 1 << 16 };   // elements a task
enum { CTN_GATE_CHANNELS = 256 }; // channels a task
extern const ctn_kernel ctn_sum[], ctn_sum_backward[], ctn_mix_gradient[], ctn_mix_reduce[], ctn_gate_gradient[],
        ctn_shuffle[], ctn_shuffle_backward[], ctn_droppath[], ctn_zero[];
