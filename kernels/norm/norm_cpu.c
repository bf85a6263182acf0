// Batch norm on sums that other kernels left: a few numbers a channel, in double precision.
#ifndef CTN_LANES
#include "norm.h"
#define CTN_SELF "norm_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_batchnorm, batchnorm)
CTN_TABLE(ctn_batchnorm_fixed, batchnorm_fixed)
CTN_TABLE(ctn_batchnorm_backward, batchnorm_backward)
CTN_TABLE(ctn_batchnorm_count, batchnorm_count)
#else

CTN_INLINE void FN(norm_apply)(const ctn_batchnorm_args *g, int64_t j, double mean, double variance) {
	double invstd = 1 / sqrt(variance + g->eps), scale = (g->gamma ? g->gamma[j] : 1) * invstd;
	g->mean[j] = (float)mean;
	g->invstd[j] = (float)invstd;
	g->scale[j] = (float)scale;
	g->shift[j] = (float)((g->beta ? g->beta[j] : 0) - mean * scale);
}

static int64_t FN(batchnorm_tasks)(const void *p) {
	return ctn_div_up(((const ctn_batchnorm_args *)p)->c, CTN_NORM_CHANNELS);
}
static void FN(batchnorm_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_batchnorm_args *g = p;
	int64_t j0 = task * CTN_NORM_CHANNELS, width = ctn_min(CTN_NORM_CHANNELS, g->c - j0);
	double mean[CTN_NORM_CHANNELS] = {0}, square[CTN_NORM_CHANNELS] = {0}, total = 0;
	for (int64_t i = 0; i < g->parts; i++) {
		const float *near = g->stats + 3 * i * g->c + j0, *sum = near + g->c;
		double n = g->count[i];
		total += n;
		for (int64_t j = 0; j < width; j++) mean[j] += n * near[j] + sum[j];
	}
	for (int64_t j = 0; j < width; j++) mean[j] /= total;
	for (int64_t i = 0; i < g->parts; i++) {
		const float *near = g->stats + 3 * i * g->c + j0, *sum = near + g->c, *sum2 = sum + g->c;
		double n = g->count[i];
		for (int64_t j = 0; j < width; j++) {
			double d = mean[j] - near[j];
			square[j] += sum2[j] + d * (n * d - 2 * sum[j]);
		}
	}
	double momentum = g->batches ? 1 / (double)(*g->batches + 1) : g->momentum;
	for (int64_t j = 0; j < width; j++) {
		double variance = square[j] / total;
		if (variance < 0) variance = 0; // a channel that is constant but for rounding; a NaN stays
		FN(norm_apply)(g, j0 + j, mean[j], variance);
		if (!g->running_mean) continue;
		float *m = g->running_mean + j0 + j, *v = g->running_var + j0 + j;
		*m = (float)(*m + momentum * (mean[j] - *m));
		*v = (float)(*v + momentum * (variance * (total > 1 && !g->biased ? total / (total - 1) : 1) - *v));
	}
}

static int64_t FN(batchnorm_fixed_tasks)(const void *p) { return FN(batchnorm_tasks)(p); }
static void FN(batchnorm_fixed_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_batchnorm_args *g = p;
	for (int64_t j = task * CTN_NORM_CHANNELS; j < ctn_min(g->c, (task + 1) * CTN_NORM_CHANNELS); j++)
		FN(norm_apply)(g, j, g->running_mean[j], g->running_var[j]);
}

static int64_t FN(batchnorm_backward_tasks)(const void *p) { return FN(batchnorm_tasks)(p); }
static void FN(batchnorm_backward_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_batchnorm_args *g = p;
	int64_t j0 = task * CTN_NORM_CHANNELS, width = ctn_min(CTN_NORM_CHANNELS, g->c - j0);
	double sum[CTN_NORM_CHANNELS] = {0}, dot[CTN_NORM_CHANNELS] = {0}, total = 0;
	for (int64_t i = 0; i < g->parts; i++) {
		const float *a = g->stats + 2 * i * g->c + j0, *b = a + g->c;
		total += g->count[i];
		for (int64_t j = 0; j < width; j++) sum[j] += a[j], dot[j] += b[j];
	}
	for (int64_t j = 0; j < width; j++) {
		int64_t k = j0 + j;
		double scale = g->scale[k], q = g->frozen ? 0 : -scale * g->invstd[k] * dot[j] / total;
		g->p[k] = (float)scale;
		g->q[k] = (float)q;
		g->r[k] = g->frozen ? 0 : (float)(-scale * sum[j] / total - q * g->mean[k]);
		if (g->dgamma) g->dgamma[k] = (float)(dot[j] + (g->accumulate ? g->dgamma[k] : 0));
		if (g->dbeta) g->dbeta[k] = (float)(sum[j] + (g->accumulate ? g->dbeta[k] : 0));
	}
}

static int64_t FN(batchnorm_count_tasks)(const void *p) { return (void)p, 1; }
static void FN(batchnorm_count_run)(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	++*((const ctn_batchnorm_args *)p)->batches;
}
#endif
