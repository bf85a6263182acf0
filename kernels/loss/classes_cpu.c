// Softmax cross-entropy. A task owns a few rows.
#ifndef CTN_LANES
#include "classes.h"
#define CTN_SELF "classes_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_classes, classes)
CTN_TABLE(ctn_classes_sum, classes_sum)
#else

// log of the sum of e^(x/t).
CTN_INLINE double FN(log_sum)(const float *x, int64_t n, float t) {
	float most = x[0];
	for (int64_t i = 1; i < n; i++) most = x[i] > most ? x[i] : most;
	double sum = 0;
	for (int64_t i = 0; i < n; i += CTN_LANES) {
		vf e = vexp((vload_part(x + i, n - i) - most) / t);
		for (int64_t j = 0; j < ctn_min(CTN_LANES, n - i); j++) sum += e[j];
	}
	return log(sum) + most / t;
}

static int64_t FN(classes_tasks)(const void *p) {
	return ctn_div_up(((const ctn_classes_args *)p)->n, CTN_CLASSES_ROWS);
}
static void FN(classes_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_classes_args *g = p;
	int64_t n = g->classes, begin = task * CTN_CLASSES_ROWS, end = ctn_min(begin + CTN_CLASSES_ROWS, g->n), used = 0;
	for (int64_t r = 0; r < g->n; r++) used += g->label[r] >= 0;
	float even = g->smoothing / (float)n, t = g->temperature, ours = 1 - g->weight,
	      share = g->scale / (float)ctn_max(1, used);
	for (int64_t r = begin; r < end; r++) {
		const float *x = g->logit + r * n, *y = g->teacher ? g->teacher + r * n : 0;
		float *row = g->row + 3 * r, *d = g->dlogit ? g->dlogit + r * n : 0;
		int64_t label = ctn_min(g->label[r], n - 1);
		row[0] = row[1] = row[2] = 0;
		if (label < 0) {
			if (d) memset(d, 0, (size_t)n * sizeof(float));
			continue;
		}
		double norm = FN(log_sum)(x, n, 1), mean = 0, loss, soft = 0, norm_x = 0, norm_y = 0;
		int64_t before = 0;
		float mine = x[label];
		for (int64_t i = 0; i < n; i++) mean += x[i], before += ctn_classes_before(i, x[i], label, mine);
		loss = norm - (1 - (double)g->smoothing) * mine - g->smoothing * (mean / (double)n);
		if (y) {
			norm_x = FN(log_sum)(x, n, t), norm_y = FN(log_sum)(y, n, t);
			for (int64_t i = 0; i < n; i++) {
				double q = y[i] / t - norm_y;
				soft += exp(q) * (q - (x[i] / t - norm_x));
			}
			loss = ours * loss + g->weight * t * t * soft;
		}
		row[0] = (float)loss, row[1] = before < 1, row[2] = before < CTN_CLASSES_TOP;
		if (!d) continue;
		for (int64_t i = 0; i < n; i += CTN_LANES) {
			int64_t m = n - i;
			vf v = vload_part(x + i, m), grad = vexp(v - (float)norm) - even;
			if (label >= i && label < i + CTN_LANES) grad[label - i] -= 1 - g->smoothing;
			if (y)
				grad = grad * ours +
				       (g->weight * t) * (vexp(v / t - (float)norm_x) - vexp(vload_part(y + i, m) / t - (float)norm_y));
			vstore_part(d + i, grad * share, m);
		}
	}
}

static int64_t FN(classes_sum_tasks)(const void *p) { return (void)p, 1; }
static void FN(classes_sum_run)(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	const ctn_classes_args *g = p;
	double loss = 0;
	int32_t count[3] = {0, 0, 0};
	for (int64_t r = 0; r < g->n; r++) {
		loss += g->row[3 * r];
		count[0] += g->label[r] >= 0, count[1] += (int32_t)g->row[3 * r + 1], count[2] += (int32_t)g->row[3 * r + 2];
	}
	g->loss[0] = (float)(loss / (double)ctn_max(1, count[0])) * g->scale;
	for (int i = 0; g->count && i < 3; i++) g->count[i] += count[i];
}
#endif
