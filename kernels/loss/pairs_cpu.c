// Losses over scores and pairs of scores, with their gradients.
#ifndef CTN_LANES
#include "pairs.h"
#define CTN_SELF "pairs_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_allpairs, allpairs)
CTN_TABLE(ctn_allpairs_sum, allpairs_sum)
CTN_TABLE(ctn_pairlist, pairlist)
CTN_TABLE(ctn_squared, squared)
#else

#undef TASK_ROWS
#define TASK_ROWS 16

// One vector of pairs (i, j): the loss of each and its derivative in the logit z = s_i - s_j. variance: of y_i - y_j,
// with noise.
CTN_INLINE void FN(pair)(const ctn_allpairs_args *g, vf z, vf dy, vf variance, vf *loss, vf *slope) {
	vf zero = {};
	if (g->kind == CTN_HINGE) {
		vf sign = vselect(dy > zero, vset(1.0f), vselect(dy < zero, vset(-1.0f), zero));
		vf gap = vset(g->margin) - sign * z;
		vi on = (gap > zero) & (sign != zero);
		*loss = vselect(on, gap, zero);
		*slope = vselect(on, -sign, zero);
		return;
	}
	vf target = g->noise ? vsigmoid(dy * 1.702f * vrsqrt(variance))
	                     : vselect(dy > zero, vset(1.0f), vselect(dy < zero, zero, vset(g->tie)));
	*loss = vlog1p_exp_neg(z) + vmaxf(z, zero) - target * z;
	*slope = vsigmoid(z) - target;
}

static int64_t FN(allpairs_tasks)(const void *p) {
	return ctn_div_up(ctn_size(((const ctn_allpairs_args *)p)->n), TASK_ROWS);
}
static void FN(allpairs_run)(const void *p, int64_t task, float *scratch) {
	const ctn_allpairs_args *g = p;
	int64_t n = ctn_size(g->n), begin = task * TASK_ROWS, end = ctn_min(begin + TASK_ROWS, n);
	const float *first = g->score, *second = g->score; // the score in the first and in the second place
	float bias = 0, ordered = (float)n * (float)(n - 1);
	if (g->heads == 2) {
		float *u = scratch, *v = scratch + n;
		for (int64_t i = 0; i < n; i++) u[i] = g->score[2 * i], v[i] = -g->score[2 * i + 1]; // logit u_i - v_j + bias
		first = u, second = v, bias = g->bias[0];
	}
	// With one head each pair is met from both sides and counts once; with two heads both orders are pairs of their
	// own.
	float scale = n > 1 ? (g->heads == 2 ? 1.0f : 2.0f) / ordered : 0.0f;
	vi lane;
	for (int i = 0; i < CTN_LANES; i++) lane[i] = i;
	for (int64_t i = begin; i < end; i++) {
		vf loss = {}, slope = {}, reverse = {};
		for (int64_t j = 0; j < n; j += CTN_LANES) {
			int64_t m = ctn_min(CTN_LANES, n - j);
			vf l, d, variance = {}, dy = vset(g->label[i]) - vload_part(g->label + j, m);
			if (g->noise) {
				vf other = vload_part(g->noise + j, m);
				variance = vset(g->noise[i] * g->noise[i]) + other * other;
			}
			vi keep = (lane < (int32_t)m) & (lane != (int32_t)(i - j)); // lanes of other examples only
			FN(pair)(g, vset(first[i] + bias) - vload_part(second + j, m), dy, variance, &l, &d);
			loss += vselect(keep, l, (vf){});
			slope += vselect(keep, d, (vf){});
			if (g->heads == 2) {
				FN(pair)(g, vload_part(first + j, m) - vset(second[i] - bias), -dy, variance, &l, &d);
				reverse += vselect(keep, d, (vf){});
			}
		}
		float *out = g->dscore + i * g->heads, d = vsum(slope) * scale, r = vsum(reverse) * scale;
		out[0] = g->accumulate ? out[0] + d : d;
		if (g->heads == 2) out[1] = g->accumulate ? out[1] + r : r, g->row[n + i] = d;
		g->row[i] = vsum(loss) / ordered;
	}
}

static int64_t FN(allpairs_sum_tasks)(const void *p) { return (void)p, 1; }
static void FN(allpairs_sum_run)(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	const ctn_allpairs_args *g = p;
	double sum = 0, dbias = 0;
	int64_t n = ctn_size(g->n);
	for (int64_t i = 0; i < n && n > 1; i++) {
		sum += g->row[i];
		if (g->heads == 2) dbias += g->row[n + i];
	}
	g->loss[0] = (float)sum + (g->accumulate ? g->loss[0] : 0);
	if (g->heads == 2) g->dbias[0] = (float)dbias + (g->accumulate ? g->dbias[0] : 0);
}

// A list is short (a batch of pairs), and pairs share examples: one task walks it in order.
static int64_t FN(pairlist_tasks)(const void *p) { return (void)p, 1; }
static void FN(pairlist_run)(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	const ctn_pairlist_args *g = p;
	int64_t n = ctn_size(g->pairs), h = g->heads;
	if (!g->accumulate) {
		memset(g->dscore, 0, (size_t)(ctn_size(g->examples) * h) * sizeof(float));
		g->loss[0] = 0;
		if (g->dbias) g->dbias[0] = 0;
	}
	double total = 0, dbias = 0, weights = 0;
	for (int64_t k = 0; k < n; k++) weights += g->weight ? g->weight[k] : 1;
	float scale = weights > 0 ? g->scale / (float)weights : 0;
	for (int64_t k = 0; k < n; k += CTN_LANES) {
		int64_t m = ctn_min(CTN_LANES, n - k);
		vf z = {}, target = vload_part(g->target + k, m);
		for (int64_t q = 0; q < m; q++) {
			int64_t a = g->a[k + q], b = g->b[k + q];
			z[q] = h == 1 ? g->score[a] - g->score[b] : g->score[2 * a] + g->score[2 * b + 1] + g->bias[0];
		}
		vf w = (g->weight ? vload_part(g->weight + k, m) : vset(1.0f)) * scale;
		vf loss = (vlog1p_exp_neg(z) + vmaxf(z, (vf){}) - target * z) * w, slope = (vsigmoid(z) - target) * w;
		for (int64_t q = 0; q < m; q++) {
			int64_t a = g->a[k + q], b = g->b[k + q];
			float s = slope[q];
			total += loss[q];
			g->dscore[h * a] += s;
			if (h == 1) g->dscore[b] -= s;
			else g->dscore[2 * b + 1] += s, dbias += s;
		}
	}
	g->loss[0] += (float)total;
	if (g->dbias) g->dbias[0] += (float)dbias;
}

static int64_t FN(squared_tasks)(const void *p) { return (void)p, 1; }
static void FN(squared_run)(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	const ctn_squared_args *g = p;
	int64_t n = ctn_size(g->n);
	double sum = 0;
	for (int64_t i = 0; i < n; i++) {
		float d = g->score[i] - g->label[i];
		sum += (double)d * d;
		g->dscore[i] = 2 * d / (float)n + (g->accumulate ? g->dscore[i] : 0);
	}
	g->loss[0] = (n ? (float)(sum / (double)n) : 0) + (g->accumulate ? g->loss[0] : 0);
}
#endif
