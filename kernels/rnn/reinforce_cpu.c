// Doubles and no loops worth a vector: one function for all instruction sets.
#include <string.h>
#include "reinforce.h"

static int64_t tasks(const void *p) {
	(void)p;
	return 1;
}
static void run(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	const ctn_reinforce_args *g = p;
	double n = (double)g->batch;
	ctn_reinforce_means mean = {0};
	for (int64_t i = 0; i < g->batch; i++) {
		double reward = ctn_reinforce_reward(g, i);
		g->value[i] = ctn_reinforce_value(g, reward);
		mean.reward += reward / n, mean.value += g->value[i] / n, mean.entropy += (double)g->entropy[i] / n;
	}
	double baseline = ctn_reinforce_baseline(g, mean.value);
	for (int64_t i = 0; i < g->batch; i++) mean.loss -= (g->value[i] - baseline) * (double)g->logp[i] / n;
	for (int64_t i = 0; i < g->batch; i++) mean.square += (g->value[i] - baseline) * (g->value[i] - baseline) / n;
	double scale = ctn_reinforce_scale(g, mean.square), weight = ctn_reinforce_weight(g);
	for (int64_t i = 0; i < g->batch; i++) {
		g->dlogp[i] = (float)(-(g->value[i] - baseline) * scale / n);
		g->dentropy[i] = (float)(-weight / n);
	}
	memcpy(ctn_reinforce_kept(g), g->action, (size_t)(g->batch * g->steps) * sizeof *g->action);
	ctn_reinforce_end(g, mean);
}

const ctn_kernel ctn_reinforce[CTN_LEVELS] = {{tasks, run}, {tasks, run}, {tasks, run}, {tasks, run}};
