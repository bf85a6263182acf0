#ifndef CTN_RNN_REINFORCE_H
#define CTN_RNN_REINFORCE_H
#include <math.h>
#include "../exec/exec.h"

enum { CTN_REINFORCE_THREADS = 256 }; // GPU: of its one block

// What lives from update to update.
typedef struct ctn_reinforce_state {
	int32_t updates, unused;
	double average;  // of rewards
	double variance; // of advantages
} ctn_reinforce_state;

typedef struct ctn_reinforce_args {
	int64_t batch, members, heads;
	const float *score;    // members x batch x heads
	const float *opponent; // members x heads
	const float *bias;     // members, with two heads
	const float *entropy;  // batch
	ctn_reinforce_state *state;
	double power, baseline;           // power 0: 1; baseline 0: none
	double weight, weight_end, least; // of the entropy; the least deviation
	int64_t iterations;               // over which the weight changes; 0: it does not
	int32_t normalize;
	int64_t kept;            // updates in the log
	double *value;           // batch: workspace
	float *dlogp, *dentropy; // batch
	float *log;              // kept x 2: mean reward, mean entropy
} ctn_reinforce_args;

// The reward of sequence i: the probability of beating the opponent, the mean over the members.
CTN_FN double ctn_reinforce_reward(const ctn_reinforce_args *g, int64_t i) {
	double sum = 0;
	for (int64_t m = 0; m < g->members; m++) {
		const float *score = g->score + (m * g->batch + i) * g->heads, *other = g->opponent + m * g->heads;
		double z = g->heads == 2 ? (double)score[0] + ((double)other[1] + (double)g->bias[m]) : (double)score[0] - (double)other[0];
		sum += 1 / (1 + exp(-z));
	}
	return sum / (double)g->members;
}

// What is learned from a reward.
CTN_FN double ctn_reinforce_value(const ctn_reinforce_args *g, double reward) { return g->power != 0 ? pow(reward, g->power) : reward; }

// The means of an update.
typedef struct ctn_reinforce_means {
	double reward, value, entropy, square; // square: of value less the baseline
} ctn_reinforce_means;

// What is subtracted from the values of this update.
CTN_FN double ctn_reinforce_baseline(const ctn_reinforce_args *g, double mean) {
	return g->baseline > 0 ? (g->state->updates ? g->state->average : mean) : 0;
}
// The variance that advantages are divided by the root of.
CTN_FN double ctn_reinforce_variance(const ctn_reinforce_args *g, double square) {
	return 0.9 * (g->state->updates ? g->state->variance : square) + 0.1 * square;
}
CTN_FN double ctn_reinforce_scale(const ctn_reinforce_args *g, double square) {
	if (!g->normalize) return 1;
	double deviation = sqrt(ctn_reinforce_variance(g, square));
	return 1 / (deviation < g->least ? g->least : deviation);
}
CTN_FN double ctn_reinforce_weight(const ctn_reinforce_args *g) {
	if (!g->iterations) return g->weight;
	double done = (double)g->state->updates / (double)g->iterations;
	return g->weight + (g->weight_end - g->weight) * (done > 1 ? 1 : done);
}

// Logs the update and counts it: the last thing that an update does.
CTN_FN void ctn_reinforce_end(const ctn_reinforce_args *g, ctn_reinforce_means mean) {
	ctn_reinforce_state *s = g->state;
	float *log = g->log + s->updates % g->kept * 2;
	log[0] = (float)mean.reward, log[1] = (float)mean.entropy;
	if (g->baseline > 0) s->average = g->baseline * ctn_reinforce_baseline(g, mean.value) + (1 - g->baseline) * mean.value;
	if (g->normalize) s->variance = ctn_reinforce_variance(g, mean.square);
	s->updates++;
}

extern const ctn_kernel ctn_reinforce[];

#endif
