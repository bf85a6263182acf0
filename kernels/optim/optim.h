#include "../exec/exec.h"

enum {
	CTN_OPTIM_BLOCK = 4096,  // elements a task; GPU: elements a block of norm
	CTN_OPTIM_THREADS = 256, // GPU: threads a block
	CTN_OPTIM_GROUP = 16,    // elements that are of one tensor, a multiple of CTN_LANES
};
enum { CTN_CONSTANT, CTN_LINEAR, CTN_COSINE }; // ctn_schedule_args.kind
enum {
	CTN_ADAM_STEP_SIZE,
	CTN_ADAM_ROOT,
	CTN_ADAM_KEEP,   // 1 - lr * decay
	CTN_ADAM_SHRINK, // lr * decay
	CTN_ADAM_SCALE,
	CTN_ADAM_TERMS
}; // what adam_begin computes

typedef struct ctn_adam_args {
	int64_t n;            // parameters
	float *w, *m, *v;     // [n]
	const float *g;       // [n]
	const float *lr;      // [1]
	const float *scale;   // [1]: the gradient's factor; NULL: 1
	const float *decayed; // [n]: a factor of the decay for each weight; NULL: 1
	int32_t *step;        // [1]: updates done
	float *terms;         // CPU: [CTN_ADAM_TERMS]
	int32_t *ticket;      // GPU: [1]: counts the blocks that ended
	double beta1, beta2, eps, decay;
	int32_t decoupled;
} ctn_adam_args;

// Stochastic gradient descent and RMSProp.
typedef struct ctn_descent_args {
	int64_t n;
	float *w, *v, *square;                 // [n]; v: momentum; square: RMSProp's mean, or none
	const float *g, *lr, *scale, *decayed; // g [n]; lr [1]; scale [1], decayed [n], or none
	const int32_t *tensor, *changed;       // [ceil(n / CTN_OPTIM_GROUP)], [tensors], or none: all are changed
	float momentum, rho, eps, decay;
	int32_t nesterov, decoupled;
} ctn_descent_args;

typedef struct ctn_norm_args {
	int64_t n;
	const float *g;  // [n]
	double *parts;   // [blocks]
	int32_t *ticket; // GPU: [1]: counts the blocks that ended
	double max;      // 0: no limit
	float *out;      // [2]: norm, factor
} ctn_norm_args;

typedef struct ctn_clamp_args {
	int64_t n;
	float *g; // [n]
	float max;
} ctn_clamp_args;

typedef struct ctn_ema_args {
	int64_t n;
	float *mean;    // [n]
	const float *w; // [n]
	float decay;
} ctn_ema_args;

typedef struct ctn_schedule_args {
	const int32_t *step;  // [1]: updates done
	float *lr;            // [1]
	double peak, final;   // learning rates
	double warmup, total; // updates
	int32_t kind;
} ctn_schedule_args;

extern const ctn_kernel ctn_adam_begin[], ctn_adam[], ctn_norm_parts[], ctn_norm[], ctn_ema[], ctn_schedule[],
        ctn_sgd[], ctn_rmsprop[], ctn_clamp[];
