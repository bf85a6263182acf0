#ifndef CTN_RNN_REINFORCE_H
#define CTN_RNN_REINFORCE_H
#include <math.h>
#include "../exec/exec.h"

enum {
	CTN_REINFORCE_THREADS = 256, // GPU: of its one block
	CTN_REINFORCE_ROW = 4,       // floats of a row of the log
};

// What lives from update to update.
typedef struct ctn_reinforce_state {
	int32_t updates, unused;
	double average;  // of rewards
	double variance; // of advantages
} ctn_reinforce_state;

typedef struct ctn_reinforce_args {
	int64_t batch, members, heads;
	const float *score;    // [members, batch, heads]
	const float *opponent; // [members, heads]
	const float *bias;     // [members], with two heads
	const float *entropy;  // [batch]
	const float *logp;     // [batch]
	const float *norm;     // [1]: that of the gradient of the update before
	const int32_t *action; // [batch, steps]
	ctn_reinforce_state *state;
	double power, baseline;           // power 0: 1; baseline 0: none
	double weight, weight_end, least; // of the entropy; the least deviation
	int64_t iterations;               // over which the weight changes; 0: it does not
	int32_t normalize;
	int64_t kept, steps;     // updates in the log
	double *value;           // [batch]: workspace
	float *dlogp, *dentropy; // [batch]
	float *log; // [kept, CTN_REINFORCE_ROW]: mean reward, entropy and loss; the gradient's norm, written an update
	            // later
	int32_t *kept_action; // [kept, batch, steps]
} ctn_reinforce_args;

// The reward of sequence i: the probability of beating the opponent, the mean over the members.
CTN_FN double ctn_reinforce_reward(const ctn_reinforce_args *g, int64_t i) {
	double sum = 0;
	for (int64_t m = 0; m < g->members; m++) {
		const float *score = g->score + (m * g->batch + i) * g->heads, *other = g->opponent + m * g->heads;
		double z = g->heads == 2 ? (double)score[0] + ((double)other[1] + (double)g->bias[m])
		                         : (double)score[0] - (double)other[0];
		sum += 1 / (1 + exp(-z));
	}
	return sum / (double)g->members;
}

// What is learned from a reward.
CTN_FN double ctn_reinforce_value(const ctn_reinforce_args *g, double reward) {
	return g->power != 0 ? pow(reward, g->power) : reward;
}

// The means of an update.
typedef struct ctn_reinforce_means {
	double reward, value, entropy, square, loss; // square: of value less the baseline
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

// Where the decisions of this update are kept.
CTN_FN int32_t *ctn_reinforce_kept(const ctn_reinforce_args *g) {
	return g->kept_action + g->state->updates % g->kept * g->batch * g->steps;
}

// Logs the update and counts it: the last thing that an update does.
CTN_FN void ctn_reinforce_end(const ctn_reinforce_args *g, ctn_reinforce_means mean) {
	ctn_reinforce_state *s = g->state;
	float *log = g->log + s->updates % g->kept * CTN_REINFORCE_ROW;
	if (s->updates) g->log[(s->updates - 1) % g->kept * CTN_REINFORCE_ROW + 3] = *g->norm;
	log[0] = (float)mean.reward, log[1] = (float)mean.entropy, log[2] = (float)mean.loss;
	if (g->baseline > 0)
		s->average = g->baseline * ctn_reinforce_baseline(g, mean.value) + (1 - g->baseline) * mean.value;
	if (g->normalize) s->variance = ctn_reinforce_variance(g, mean.square);
	s->updates++;
}

extern const ctn_kernel ctn_reinforce[];

#endif
