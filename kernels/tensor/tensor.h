// How kernels read and write the tensors of a network. A tensor is NHWC: pixels one after the other, `ld` elements from
// a pixel to the next, so that a tensor may be some channels of a wider one. load.h has the code, load.cuh that for
// GPUs. There z, g and d may hold bfloat16, by the kernel's entry; the rest is float32.
#ifndef CTN_TENSOR_H
#define CTN_TENSOR_H
#include "../exec/exec.h"
#include "norm.h"

enum {
	CTN_NONE,
	CTN_RELU,
	CTN_RELU6,
	CTN_HSWISH,
	CTN_HSIGMOID,
	CTN_SWISH,
	CTN_SIGMOID,
	CTN_GELU,
	CTN_ACTS, // how many there are
};

// What a consumer reads: gate * act(scale*z + shift).
typedef struct ctn_input {
	const float *z, *scale, *shift; // z [N, H, W, C]; scale and shift [C], or none
	const float *gate;              // [N, C], or none
	int64_t ld, gate_ld;            // elements from a pixel of z to the next, and from an image of gate to the next
	int64_t image;                  // pixels of an image, H W
	int32_t act;
} ctn_input;

// The gradient in a tensor z that was normalised: dz = p*g + q*z + r, or g alone where there is no p.
typedef struct ctn_gradient {
	const float *g, *z, *p, *q, *r; // g, z [N, H, W, C]; p, q, r [C]
	int64_t g_ld, z_ld;             // elements from a pixel to the next
} ctn_gradient;

// Where the gradient in a consumer's input goes. The last consumer turns it into the gradient in scale*z + shift.
typedef struct ctn_sink {
	float *d;   // [N, H, W, C]
	int64_t ld; // elements from a pixel to the next
	int32_t accumulate, last;
	ctn_input of;               // when last
	const float *mean, *invstd; // [C], when last and normalised
	float *stats;               // [parts, 2, stats_ld]: sums of g and of g*zhat
	int64_t stats_ld;
	const ctn_norm *norm; // GPU: what is made of them
} ctn_sink;

#endif
