#include "../exec/exec.h"

enum { CTN_LOGISTIC, CTN_HINGE };

typedef struct ctn_allpairs_args {
	ctn_dim n;
	const float *score, *label; // [n, heads]; [n]
	const float *noise;         // [n], or none
	const float *bias;          // [1], with two heads
	float margin, tie;          // a tie's target
	int32_t kind, heads, accumulate;
	float *dscore; // [n, heads]
	float *dbias;  // [1], with two heads
	float *row;    // [n]: each example's share of the loss; with two heads n more of the bias's gradient
	float *loss;   // [1]
} ctn_allpairs_args;

typedef struct ctn_pairlist_args {
	ctn_dim pairs, examples;
	int64_t heads;                // 1: logit = score[a] - score[b]; 2: score[a][0] + score[b][1] + bias
	const float *score, *bias;    // [examples, heads]; [1]
	const int32_t *a, *b;         // [pairs]
	const float *target, *weight; // [pairs]; weight or none
	float *dscore, *dbias, *loss; // [examples, heads]; [1]; [1]
	int32_t accumulate;           // add to dscore, dbias and loss
	float scale;
	float *slope;  // GPU: [pairs]
	double *parts; // GPU: [blocks, 3]: sums of loss, weight and slope
} ctn_pairlist_args;

typedef struct ctn_squared_args {
	ctn_dim n;
	const float *score, *label; // [n]
	float *dscore, *loss;       // [n]; [1]
	int32_t accumulate;
} ctn_squared_args;

extern const ctn_kernel ctn_allpairs[], ctn_allpairs_sum[], ctn_pairlist[], ctn_squared[];
// GPU: threads a block, threads of the one block of a sum, examples a block of pairlist's second launch, pairs of a list
// that has no first one.
enum { CTN_LOSS_BLOCK = 256, CTN_SUM_BLOCK = 1024, CTN_PAIRLIST_EXAMPLES = 16, CTN_PAIRLIST_FEW = 1024 };
