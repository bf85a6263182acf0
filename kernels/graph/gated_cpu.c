// The gated unit of the node-by-node encoder.
#ifndef CTN_LANES
#include "gated.h"
#define CTN_SELF "gated_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_gated, gated)
CTN_TABLE(ctn_gated_backward, gated_backward)
#else

#undef TASK_ROWS
#define TASK_ROWS 64

static int64_t FN(gated_tasks)(const void *p) {
	return ctn_div_up(ctn_size(((const ctn_gated_args *)p)->rows), TASK_ROWS);
}
static void FN(gated_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_gated_args *g = p;
	int64_t begin = task * TASK_ROWS, end = ctn_min(begin + TASK_ROWS, ctn_size(g->rows)), w = g->width;
	for (int64_t r = begin; r < end; r++) {
		const float *e = g->table + (int64_t)g->label[r] * 2 * w, *m = g->scale + (int64_t)g->label[r] * 2 * w,
		            *y = g->product + r * 2 * w;
		float *gate = g->gates + r * 2 * w;
		for (int64_t j = 0; j < w; j += CTN_LANES) {
			int64_t n = ctn_min(CTN_LANES, w - j);
			vf z = vload_part(e + j, n), t = vload_part(e + w + j, n), a = {};
			if (g->aggregated) {
				a = vload_part(g->aggregated + r * w + j, n);
				z += vload_part(m + j, n) * vload_part(y + j, n);
				t += vload_part(m + w + j, n) * vload_part(y + w + j, n);
			}
			z = vsigmoid(z);
			t = vtanh(t);
			vstore_part(gate + j, z, n);
			vstore_part(gate + w + j, t, n);
			vstore_part(g->out + r * w + j, z * t + (1.0f - z) * a, n);
		}
	}
}

static int64_t FN(gated_backward_tasks)(const void *p) { return FN(gated_tasks)(p); }
static void FN(gated_backward_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_gated_args *g = p;
	int64_t begin = task * TASK_ROWS, end = ctn_min(begin + TASK_ROWS, ctn_size(g->rows)), w = g->width;
	for (int64_t r = begin; r < end; r++) {
		const float *m = g->scale + (int64_t)g->label[r] * 2 * w;
		float *gate = g->gates + r * 2 * w, *y = g->product + r * 2 * w, *dy = g->dproduct + r * 2 * w;
		for (int64_t j = 0; j < w; j += CTN_LANES) {
			int64_t n = ctn_min(CTN_LANES, w - j);
			vf z = vload_part(gate + j, n), t = vload_part(gate + w + j, n), d = vload_part(g->grad + r * w + j, n),
			   a = {};
			if (g->aggregated) {
				a = vload_part(g->aggregated + r * w + j, n);
				vstore_part(g->daggregated + r * w + j, d * (1.0f - z), n);
			}
			vf dz = d * (t - a) * z * (1.0f - z), dt = d * z * (1.0f - t * t);
			vstore_part(gate + j, dz, n);
			vstore_part(gate + w + j, dt, n);
			if (g->aggregated) {
				vstore_part(dy + j, dz * vload_part(m + j, n), n);
				vstore_part(dy + w + j, dt * vload_part(m + w + j, n), n);
				vstore_part(y + j, dz * vload_part(y + j, n), n);
				vstore_part(y + w + j, dt * vload_part(y + w + j, n), n);
			}
		}
	}
}

#endif
