// Scores to the gradient of REINFORCE.
#include "../exec/cuda.cuh"
#include "../exec/reduce.cuh"
#include "reinforce.h"

// One block; a thread takes every CTN_REINFORCE_THREADS-th sequence. For a batch of one it is a few operations in
// double and the launch.
CTN_ENTRY(cu_reinforce, const ctn_reinforce_args g, CTN_REINFORCE_THREADS, 1) {
	constexpr int THREADS = CTN_REINFORCE_THREADS;
	const double n = (double)g.batch;
	ctn_reinforce_means mean = {};
	for (int64_t i = threadIdx.x; i < g.batch; i += THREADS) {
		double reward = ctn_reinforce_reward(&g, i);
		g.value[i] = ctn_reinforce_value(&g, reward);
		mean.reward += reward / n, mean.value += g.value[i] / n, mean.entropy += (double)g.entropy[i] / n;
	}
	mean.reward = block_sum<THREADS>(mean.reward), mean.value = block_sum<THREADS>(mean.value),
	mean.entropy = block_sum<THREADS>(mean.entropy);
	const double baseline = ctn_reinforce_baseline(&g, mean.value);
	for (int64_t i = threadIdx.x; i < g.batch; i += THREADS) {
		const double advantage = g.value[i] - baseline;
		mean.square += advantage * advantage / n;
		mean.loss -= advantage * (double)g.logp[i] / n;
	}
	mean.square = block_sum<THREADS>(mean.square), mean.loss = block_sum<THREADS>(mean.loss);
	const double scale = ctn_reinforce_scale(&g, mean.square), weight = ctn_reinforce_weight(&g);
	for (int64_t i = threadIdx.x; i < g.batch; i += THREADS) {
		g.dlogp[i] = (float)(-(g.value[i] - baseline) * scale / n);
		g.dentropy[i] = (float)(-weight / n);
	}
	int32_t *kept = ctn_reinforce_kept(&g);
	for (int64_t i = threadIdx.x; i < g.batch * g.steps; i += THREADS) kept[i] = g.action[i];
	__syncthreads(); // all have read the state
	if (threadIdx.x == 0) ctn_reinforce_end(&g, mean);
}
