// The weights of mixtures: some hundred numbers, of which one task has all.
#ifndef CTN_LANES
#include "mixture.h"
#define CTN_SELF "mixture_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_soften, soften)
CTN_TABLE(ctn_soften_backward, soften_backward)
#else

static int64_t FN(soften_tasks)(const void *p) { return (void)p, 1; }
static void FN(soften_run)(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	const ctn_mixture_args *g = p;
	for (int64_t r = 0; r < g->rows; r++) ctn_mixture_soften(g, r);
}

static int64_t FN(soften_backward_tasks)(const void *p) { return (void)p, 1; }
static void FN(soften_backward_run)(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	const ctn_mixture_args *g = p;
	double cost = 0;
	for (int64_t i = 0; g->cost && i < g->begin[g->rows]; i++) cost += ctn_mixture_cost(g, i);
	for (int64_t r = 0; r < g->rows; r++) ctn_mixture_backward(g, r, cost);
}
#endif
