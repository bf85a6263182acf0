// What a second label changes in a loss and its gradient: two elements a row. One task.
#ifndef CTN_LANES
#include "mixup.h"
#define CTN_SELF "mixup_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_mixup, mixup)
#else

static int64_t FN(mixup_tasks)(const void *p) { return (void)p, 1; }
static void FN(mixup_run)(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	const ctn_mixup_args *g = p;
	int64_t used = 0;
	for (int64_t r = 0; r < g->n; r++) used += g->label[r] >= 0;
	float rest = (1 - *g->weight) * g->share / (float)ctn_max(1, used);
	double loss = 0;
	for (int64_t r = 0; r < g->n; r++) {
		if (g->label[r] < 0 || g->label[r] == g->partner[r]) continue;
		int64_t ours = r * g->classes + ctn_min(g->label[r], g->classes - 1);
		int64_t theirs = r * g->classes + ctn_max(0, ctn_min(g->partner[r], g->classes - 1));
		loss += (double)g->logit[ours] - g->logit[theirs];
		if (g->dlogit) g->dlogit[ours] += rest, g->dlogit[theirs] -= rest;
	}
	*g->loss += (float)(rest * loss);
}
#endif
