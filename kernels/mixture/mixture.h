#include <math.h>
#include "../exec/exec.h"
#include "../exec/philox.h"

enum { CTN_MIXTURE_BLOCK = 32 }; // GPU: threads a block, a row each

typedef struct ctn_mixture_args {
	int64_t rows;
	const int32_t *begin;     // [rows + 1]: row r has elements begin[r] to begin[r + 1]; n = begin[rows]
	const float *alpha;       // [n]
	float *weights;           // [n]; backward only reads them
	const float *temperature; // [1], or none
	uint64_t seed;
	const int32_t *step; // [1]: updates done
	uint32_t purpose;
	int32_t gumbel; // add noise to alpha
	// backward
	const float *dweights, *cost; // [n]; cost or none
	const float *loss;            // [1], with cost
	float scale, exponent;
	float *dalpha; // [n]
} ctn_mixture_args;

// A number of Gumbel's distribution, -log(-log u) with u = (k + 1/2) 2^-24, k the upper 24 bits. From 1/2 on u does not
// fit a float, and would become 1 at the end: there its distance from 1 is taken, which does.
CTN_FN float ctn_gumbel(uint32_t bits) {
	uint32_t k = bits >> 8, left = 0xffffff - k;
	float x = k < left ? -logf((float)(2 * k + 1) * 0x1p-25f) : -log1pf((float)(2 * left + 1) * -0x1p-25f);
	return -logf(x);
}

// The weights of row r: softmax((alpha + noise) / temperature).
CTN_FN void ctn_mixture_soften(const ctn_mixture_args *g, int64_t r) {
	float by = 1 / (g->temperature ? *g->temperature : 1), most = -INFINITY, sum = 0;
	int32_t begin = g->begin[r], end = g->begin[r + 1];
	for (int32_t i = begin; i < end; i++) {
		float x = g->alpha[i];
		if (g->gumbel) {
			uint32_t bits[4];
			ctn_philox(g->seed, g->purpose, (uint32_t)*g->step, (uint64_t)i, bits);
			x += ctn_gumbel(bits[0]);
		}
		x *= by;
		if (x > most) most = x;
		g->weights[i] = x;
	}
	for (int32_t i = begin; i < end; i++) sum += g->weights[i] = expf(g->weights[i] - most);
	for (int32_t i = begin; i < end; i++) g->weights[i] /= sum;
}

// What element i adds to the cost of the whole mixture.
CTN_FN double ctn_mixture_cost(const ctn_mixture_args *g, int64_t i) { return (double)g->weights[i] * g->cost[i]; }

// The gradient in a row's alpha, where all rows cost `cost` together.
CTN_FN void ctn_mixture_backward(const ctn_mixture_args *g, int64_t r, double cost) {
	int32_t begin = g->begin[r], end = g->begin[r + 1];
	double by = 1 / (g->temperature ? (double)*g->temperature : 1), factor = 1, rate = 0, mean = 0;
	if (g->cost) {
		double log_cost = log(cost);
		factor = g->scale * pow(log_cost, g->exponent);
		rate = *g->loss * (double)g->scale * g->exponent * pow(log_cost, (double)g->exponent - 1) / cost;
	}
	for (int pass = 0; pass < 2; pass++)
		for (int32_t i = begin; i < end; i++) {
			double w = g->weights[i], dw = g->dweights[i] * factor + (g->cost ? rate * g->cost[i] : 0);
			if (pass) g->dalpha[i] = (float)(w * by * (dw - mean));
			else mean += w * dw;
		}
}

extern const ctn_kernel ctn_soften[], ctn_soften_backward[];
