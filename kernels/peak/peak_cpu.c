// What the processor reaches with nothing in its way: multiply-adds that touch registers only, and copies.
#ifndef CTN_LANES
#include "peak.h"
#define CTN_SELF "peak_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_peak, peak)
CTN_TABLE(ctn_copy, copy)
const int64_t ctn_peak_lanes[CTN_LEVELS] = {4, 8, 16, 16};
#else

static int64_t FN(peak_tasks)(const void *p) { return ((const ctn_peak_args *)p)->tasks; }
static void FN(peak_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_peak_args *g = p;
	vf chain[CTN_PEAK_CHAINS], x = vset(0.5f), y = vset(0.5f + (float)task);
#pragma GCC unroll 16
	for (int i = 0; i < CTN_PEAK_CHAINS; i++) chain[i] = vset((float)i);
	for (int64_t r = 0; r < g->rounds; r++) {
#pragma GCC unroll 16
		for (int i = 0; i < CTN_PEAK_CHAINS; i++) chain[i] = chain[i] * x + y;
	}
#pragma GCC unroll 16
	for (int i = 1; i < CTN_PEAK_CHAINS; i++) chain[0] += chain[i];
	g->out[task] = vsum(chain[0]);
}

static int64_t FN(copy_tasks)(const void *p) { return ctn_div_up(((const ctn_copy_args *)p)->n, CTN_COPY_TASK); }
static void FN(copy_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_copy_args *g = p;
	int64_t begin = task * CTN_COPY_TASK;
	memcpy(g->dst + begin, g->src + begin, (size_t)ctn_min(CTN_COPY_TASK, g->n - begin) * sizeof(float));
}
#endif
