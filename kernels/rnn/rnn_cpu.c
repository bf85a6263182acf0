// The controller's rollout and its gradient. Matrices are stored so that both directions read them along rows: with W
// (hidden x n), product() adds a W to a row of n, and dots() gives W d. An input is always an embedding, so its share
// of the gates is computed once an embedding, not once a decision, and the gradients of embeddings and input weights
// follow from the sums of the gates' gradients over the decisions that used an embedding.
#ifndef CTN_LANES
#include "rnn.h"
#include "../exec/philox.h"
#define CTN_SELF "rnn_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_rnn_prepare, rnn_prepare)
CTN_TABLE(ctn_rnn_rollout, rnn_rollout)
CTN_TABLE(ctn_rnn_count, rnn_count)
CTN_TABLE(ctn_rnn_bptt, rnn_bptt)
CTN_TABLE(ctn_rnn_weights, rnn_weights)
CTN_TABLE(ctn_rnn_embeddings, rnn_embeddings)
#else

#undef TILE
#undef ROWV
#undef WIDE
#if CTN_LANES == 16
#define TILE 8 // rows of a tile: TILE x 2 vectors of accumulators
#define ROWV 4 // vectors of a single row
#define WIDE 4 // rows of the matrix that dots() multiplies with 4 vectors at a time
#else
#define TILE 4
#define ROWV 8
#define WIDE 2
#endif

// out[r][0..v vectors) += sum over k of a[r][k] w[k * ld ..]
CTN_INLINE void FN(rnn_tile)(int rows, int v, const float *const *a, int64_t hidden, const float *w, int64_t ld,
                             float *const *out, int64_t at) {
	vf acc[TILE][ROWV];
#pragma GCC unroll 8
	for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
		for (int i = 0; i < v; i++) acc[r][i] = vload(out[r] + at + i * CTN_LANES);
	for (int64_t k = 0; k < hidden; k++) {
		const float *from = w + k * ld + at;
		vf b[ROWV];
#pragma GCC unroll 8
		for (int i = 0; i < v; i++) b[i] = vload(from + i * CTN_LANES);
#pragma GCC unroll 8
		for (int r = 0; r < rows; r++) {
			vf x = vset(a[r][k]);
#pragma GCC unroll 8
			for (int i = 0; i < v; i++) acc[r][i] += x * b[i];
		}
	}
#pragma GCC unroll 8
	for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
		for (int i = 0; i < v; i++) vstore(out[r] + at + i * CTN_LANES, acc[r][i]);
}

// The same over columns [begin, end), a multiple of 16 of them, and any number of rows.
static void FN(rnn_product)(int64_t rows, const float *const *a, int64_t hidden, const float *w, int64_t ld,
                            float *const *out, int64_t begin, int64_t end) {
	for (; rows >= TILE; rows -= TILE, a += TILE, out += TILE) {
		int64_t at = begin;
		for (; at + 2 * CTN_LANES <= end; at += 2 * CTN_LANES) FN(rnn_tile)(TILE, 2, a, hidden, w, ld, out, at);
		for (; at < end; at += CTN_LANES) FN(rnn_tile)(TILE, 1, a, hidden, w, ld, out, at);
	}
	for (; rows > 0; rows--, a++, out++) {
		int64_t at = begin;
		for (; at + ROWV * CTN_LANES <= end; at += ROWV * CTN_LANES) FN(rnn_tile)(1, ROWV, a, hidden, w, ld, out, at);
		for (; at < end; at += CTN_LANES) FN(rnn_tile)(1, 1, a, hidden, w, ld, out, at);
	}
}

// vsum without a detour through memory, which is what GCC makes of it.
CTN_INLINE float FN(rnn_sum)(vf v) {
	typedef float quad __attribute__((vector_size(16)));
#if CTN_LANES == 4
	quad a = v;
#else
	typedef float half __attribute__((vector_size(CTN_LANES * 2)));
	half parts[2];
	memcpy(parts, &v, sizeof v);
	half b = parts[0] + parts[1];
#if CTN_LANES == 16
	quad quads[2];
	memcpy(quads, &b, sizeof b);
	quad a = quads[0] + quads[1];
#else
	quad a = b;
#endif
#endif
	return (a[0] + a[2]) + (a[1] + a[3]);
}

// out[r][i] += d[r] . row i of w, for `rows` vectors d and `count` rows of w
CTN_INLINE void FN(rnn_dot_tile)(int rows, int count, const float *const *d, int64_t n, const float *w, int64_t ld,
                                 float *const *out, int64_t at) {
	vf acc[TILE][8];
#pragma GCC unroll 8
	for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
		for (int i = 0; i < count; i++) acc[r][i] = (vf){};
	for (int64_t j = 0; j < n; j += CTN_LANES) {
		vf b[8];
#pragma GCC unroll 8
		for (int i = 0; i < count; i++) b[i] = vload(w + (at + i) * ld + j);
#pragma GCC unroll 8
		for (int r = 0; r < rows; r++) {
			vf x = vload(d[r] + j);
#pragma GCC unroll 8
			for (int i = 0; i < count; i++) acc[r][i] += x * b[i];
		}
	}
#pragma GCC unroll 8
	for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
		for (int i = 0; i < count; i++) out[r][at + i] += FN(rnn_sum)(acc[r][i]);
}
static void FN(rnn_dots)(int64_t rows, const float *const *d, int64_t n, const float *w, int64_t ld, float *const *out,
                         int64_t hidden) {
	for (; rows >= 4; rows -= 4, d += 4, out += 4) {
		int64_t at = 0;
		for (; at + WIDE <= hidden; at += WIDE) FN(rnn_dot_tile)(4, WIDE, d, n, w, ld, out, at);
		for (; at < hidden; at++) FN(rnn_dot_tile)(4, 1, d, n, w, ld, out, at);
	}
	for (; rows > 0; rows--, d++, out++) {
		int64_t at = 0;
		for (; at + 8 <= hidden; at += 8) FN(rnn_dot_tile)(1, 8, d, n, w, ld, out, at);
		for (; at < hidden; at++) FN(rnn_dot_tile)(1, 1, d, n, w, ld, out, at);
	}
}

CTN_INLINE float FN(rnn_dot)(const float *a, const float *b, int64_t n) {
	vf sum = {};
	for (int64_t j = 0; j < n; j += CTN_LANES) sum += vload(a + j) * vload(b + j);
	return FN(rnn_sum)(sum);
}
CTN_INLINE void FN(rnn_add)(float *to, const float *x, float factor, int64_t n) {
	for (int64_t j = 0; j < n; j += CTN_LANES) vstore(to + j, vload(to + j) + vload(x + j) * factor);
}
CTN_INLINE const int32_t *FN(rnn_head)(const ctn_rnn_args *g, int64_t head) {
	return g->head + head * CTN_RNN_HEAD_INTS;
}

// Decisions of a rollout, known once the first is taken, and decision t as (head, choices).
CTN_INLINE int64_t FN(rnn_length)(const ctn_rnn_args *g, int64_t b) {
	return 1 + g->variants[2 * g->actions[b * g->steps] + 1];
}
CTN_INLINE const int32_t *FN(rnn_step)(const ctn_rnn_args *g, int64_t b, int64_t t) {
	return t ? g->list + 2 * (g->variants[2 * g->actions[b * g->steps]] + t - 1) : g->list;
}
// The embedding that is the input of decision t.
CTN_INLINE int64_t FN(rnn_input)(const ctn_rnn_args *g, int64_t b, int64_t t) {
	if (!t) return g->embeddings;
	return FN(rnn_head)(g, FN(rnn_step)(g, b, t - 1)[0])[CTN_RNN_ROW] + g->actions[b * g->steps + t - 1];
}

// What every embedding adds to the gates, and the keys of attention heads.
static int64_t FN(rnn_prepare_tasks)(const void *p) {
	const ctn_rnn_args *g = p;
	return 4 * g->pad / CTN_RNN_BLOCK + g->heads;
}
static void FN(rnn_prepare_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_rnn_args *g = p;
	int64_t blocks = 4 * g->pad / CTN_RNN_BLOCK, gates = task < blocks, n = gates ? 4 * g->pad : g->pad;
	const float *from[CTN_RNN_GROUP];
	float *to[CTN_RNN_GROUP];
	if (gates)
		for (int64_t row = 0; row <= g->embeddings; row++)
			for (int64_t j = task * CTN_RNN_BLOCK; j < (task + 1) * CTN_RNN_BLOCK; j += CTN_LANES)
				vstore(g->inputs + row * n + j, vload(g->params + g->bih + j) + vload(g->params + g->bhh + j));
	int64_t filled = 0;
	for (int64_t i = gates ? 0 : task - blocks; i < (gates ? g->heads : task - blocks + 1); i++) {
		const int32_t *head = FN(rnn_head)(g, i);
		if (!gates && !head[CTN_RNN_KIND]) continue;
		const float *w = g->params + (gates ? g->wih : head[CTN_RNN_A]);
		for (int64_t choice = 0; choice < head[CTN_RNN_CHOICES]; choice++) {
			from[filled] = g->params + head[CTN_RNN_EMBEDDING] + choice * g->pad;
			to[filled] = (gates ? g->inputs : g->keys) + (head[CTN_RNN_ROW] + choice) * n;
			if (!gates) memset(to[filled], 0, (size_t)n * 4);
			filled++;
			int last = choice == head[CTN_RNN_CHOICES] - 1 && (!gates || i == g->heads - 1);
			if (filled < CTN_RNN_GROUP && !last) continue;
			FN(rnn_product)(filled, from, g->hidden, w, n, to, gates ? task * CTN_RNN_BLOCK : 0,
			                gates ? (task + 1) * CTN_RNN_BLOCK : n);
			filled = 0;
		}
	}
}

// Turns the sums in a row of gates into gates, and gives c and h.
CTN_INLINE void FN(rnn_cell)(float *gates, const float *before, float *c, float *h, int64_t pad) {
	for (int64_t j = 0; j < pad; j += CTN_LANES) {
		vf i = vsigmoid(vload(gates + j)), f = vsigmoid(vload(gates + pad + j)), u = vtanh(vload(gates + 2 * pad + j));
		vf o = vsigmoid(vload(gates + 3 * pad + j)), now = i * u;
		if (before) now += f * vload(before + j);
		vstore(gates + j, i), vstore(gates + pad + j, f), vstore(gates + 2 * pad + j, u),
		        vstore(gates + 3 * pad + j, o);
		vstore(c + j, now), vstore(h + j, o * vtanh(now));
	}
}

// The softmax over the first `n` logits and the decision. Logits past n come as zeros up to a multiple of 16.
CTN_INLINE void FN(rnn_decide)(const ctn_rnn_args *g, int64_t b, int64_t t, float *logits, int64_t n) {
	int64_t row = b * g->steps + t;
	float *p = g->p + row * g->choices, *lp = g->lp + row * g->choices, most = logits[0], sum = 0, entropy = 0;
	for (int64_t i = 1; i < n; i++) most = logits[i] > most ? logits[i] : most;
	for (int64_t i = 0; i < g->choices; i += CTN_LANES) vstore(p + i, vexp(vload(logits + i) - most));
	for (int64_t i = 0; i < n; i++) sum += p[i];
	float log_sum = logf(sum);
	int32_t action = 0;
	if (g->given) {
		action = g->given[row];
		if (action < 0 || action >= n) action = 0; // never out of bounds; who gives actions checks them
	} else {
		uint32_t bits[4];
		ctn_philox(g->seed, g->purpose, (uint32_t)*g->counter, (uint64_t)b * 64 + (uint64_t)t, bits);
		float at = ctn_uniform(bits[0]) * sum, below = p[0];
		while (action < n - 1 && below <= at) below += p[++action];
	}
	for (int64_t i = 0; i < g->choices; i++) {
		p[i] = i < n ? p[i] / sum : 0;
		lp[i] = i < n ? logits[i] - most - log_sum : 0;
		entropy -= p[i] * lp[i];
	}
	g->actions[row] = action;
	g->logp[b] += lp[action];
	g->entropy[b] += entropy;
}

static int64_t FN(rnn_rollout_tasks)(const void *p) {
	return ctn_div_up(((const ctn_rnn_args *)p)->batch, CTN_RNN_GROUP);
}
static void FN(rnn_rollout_run)(const void *p, int64_t task, float *scratch) {
	const ctn_rnn_args *g = p;
	int64_t begin = task * CTN_RNN_GROUP, end = ctn_min(begin + CTN_RNN_GROUP, g->batch), pad = g->pad;
	float *query = scratch, *logits = query + CTN_RNN_GROUP * pad;
	const float *from[CTN_RNN_GROUP];
	float *to[CTN_RNN_GROUP];
	for (int64_t b = begin; b < end; b++) {
		g->logp[b] = g->entropy[b] = 0;
		for (int64_t t = 0; t < g->steps; t++) g->actions[b * g->steps + t] = -1;
	}
	for (int64_t t = 0; t < g->steps; t++) {
		int64_t n = 0;
		for (int64_t b = begin; b < end; b++) {
			if (t && t >= FN(rnn_length)(g, b)) continue;
			int64_t row = b * g->steps + t;
			to[n] = g->gates + row * 4 * pad;
			from[n++] = g->h + (row - 1) * pad;
			memcpy(to[n - 1], g->inputs + FN(rnn_input)(g, b, t) * 4 * pad, (size_t)pad * 16);
		}
		if (!n) break;
		if (t) FN(rnn_product)(n, from, g->hidden, g->params + g->whh, 4 * pad, to, 0, 4 * pad);
		for (int64_t b = begin; b < end; b++) {
			if (t && t >= FN(rnn_length)(g, b)) continue;
			int64_t row = b * g->steps + t;
			FN(rnn_cell)(g->gates + row * 4 * pad, t ? g->c + (row - 1) * pad : NULL, g->c + row * pad,
			             g->h + row * pad, pad);
		}
		for (int64_t i = 0; i < g->heads; i++) {
			const int32_t *head = FN(rnn_head)(g, i);
			if (!head[CTN_RNN_KIND]) continue;
			n = 0;
			for (int64_t b = begin; b < end; b++) {
				if (t && t >= FN(rnn_length)(g, b)) continue;
				if (FN(rnn_step)(g, b, t)[0] != i) continue;
				from[n] = g->h + (b * g->steps + t) * pad;
				to[n] = query + (b - begin) * pad;
				memset(to[n++], 0, (size_t)pad * 4);
			}
			FN(rnn_product)(n, from, g->hidden, g->params + head[CTN_RNN_B], pad, to, 0, pad);
		}
		for (int64_t b = begin; b < end; b++) {
			if (t && t >= FN(rnn_length)(g, b)) continue;
			int64_t row = b * g->steps + t;
			const int32_t *step = FN(rnn_step)(g, b, t), *head = FN(rnn_head)(g, step[0]);
			const float *h = g->h + row * pad, *q = query + (b - begin) * pad;
			memset(logits, 0, (size_t)g->choices * 4);
			for (int64_t i = 0; i < step[1]; i++) {
				if (!head[CTN_RNN_KIND]) {
					logits[i] =
					        g->params[head[CTN_RNN_B] + i] + FN(rnn_dot)(g->params + head[CTN_RNN_A] + i * pad, h, pad);
					continue;
				}
				const float *key = g->keys + (head[CTN_RNN_ROW] + i) * pad, *v = g->params + head[CTN_RNN_V];
				float *out = g->tanh + (row * g->attended + i) * pad;
				vf sum = {};
				for (int64_t j = 0; j < pad; j += CTN_LANES) {
					vf x = vtanh(vload(key + j) + vload(q + j));
					vstore(out + j, x);
					sum += x * vload(v + j);
				}
				logits[i] = FN(rnn_sum)(sum);
			}
			FN(rnn_decide)(g, b, t, logits, step[1]);
		}
	}
}

static int64_t FN(rnn_count_tasks)(const void *p) {
	(void)p;
	return 1;
}
static void FN(rnn_count_run)(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	int32_t *counter = ((const ctn_rnn_args *)p)->counter;
	*counter = (int32_t)((uint32_t)*counter + 1);
}

// Back through one decision: the gates' gradient from dh and dc, dc becoming that of the decision before.
CTN_INLINE void FN(rnn_cell_back)(const float *gates, const float *before, const float *c, const float *dh, float *dc,
                                  float *d, int64_t pad) {
	for (int64_t j = 0; j < pad; j += CTN_LANES) {
		vf i = vload(gates + j), f = vload(gates + pad + j), u = vload(gates + 2 * pad + j),
		   o = vload(gates + 3 * pad + j);
		vf squashed = vtanh(vload(c + j)), up = vload(dh + j),
		   down = vload(dc + j) + up * o * (1.0f - squashed * squashed);
		vstore(d + j, down * u * i * (1.0f - i));
		vstore(d + pad + j, before ? down * vload(before + j) * f * (1.0f - f) : (vf){});
		vstore(d + 2 * pad + j, down * i * (1.0f - u * u));
		vstore(d + 3 * pad + j, up * squashed * o * (1.0f - o));
		vstore(dc + j, down * f);
	}
}

// The gradient of every decision's gates, queries and logits; what is small is summed over the group here.
static int64_t FN(rnn_bptt_tasks)(const void *p) { return ctn_div_up(((const ctn_rnn_args *)p)->batch, CTN_RNN_GROUP); }
static void FN(rnn_bptt_run)(const void *p, int64_t task, float *scratch) {
	const ctn_rnn_args *g = p;
	int64_t begin = task * CTN_RNN_GROUP, end = ctn_min(begin + CTN_RNN_GROUP, g->batch), pad = g->pad;
	float *dh = scratch, *dc = dh + CTN_RNN_GROUP * pad, *part = g->partial + task * g->part;
	const float *from[CTN_RNN_GROUP];
	float *to[CTN_RNN_GROUP];
	memset(dh, 0, (size_t)(2 * CTN_RNN_GROUP * pad) * 4);
	memset(part, 0, (size_t)g->part * 4);
	for (int64_t t = g->steps - 1; t >= 0; t--) {
		for (int64_t b = begin; b < end; b++) {
			if (t >= FN(rnn_length)(g, b)) continue;
			int64_t row = b * g->steps + t;
			const int32_t *step = FN(rnn_step)(g, b, t), *head = FN(rnn_head)(g, step[0]);
			const float *prob = g->p + row * g->choices, *lp = g->lp + row * g->choices, *h = g->h + row * pad;
			const float *v = g->params + head[CTN_RNN_V];
			float *sums = part + head[CTN_RNN_PART], *last = sums + head[CTN_RNN_CHOICES] * pad,
			      *dq = g->dquery + row * pad;
			float *mine = dh + (b - begin) * pad, entropy = 0;
			for (int64_t i = 0; i < step[1]; i++) entropy -= prob[i] * lp[i];
			if (head[CTN_RNN_KIND]) memset(dq, 0, (size_t)pad * 4);
			for (int64_t i = 0; i < step[1]; i++) {
				float d = g->dlogp[b] * ((float)(g->actions[row] == i) - prob[i]) -
				          g->dentropy[b] * prob[i] * (lp[i] + entropy);
				if (!head[CTN_RNN_KIND]) {
					FN(rnn_add)(mine, g->params + head[CTN_RNN_A] + i * pad, d, pad);
					FN(rnn_add)(sums + i * pad, h, d, pad);
					last[i] += d;
					continue;
				}
				const float *squashed = g->tanh + (row * g->attended + i) * pad;
				for (int64_t j = 0; j < pad; j += CTN_LANES) {
					vf x = vload(squashed + j), inner = d * vload(v + j) * (1.0f - x * x);
					vstore(dq + j, vload(dq + j) + inner);
					vstore(sums + i * pad + j, vload(sums + i * pad + j) + inner);
					vstore(last + j, vload(last + j) + d * x);
				}
			}
		}
		for (int64_t i = 0; i < g->heads; i++) {
			const int32_t *head = FN(rnn_head)(g, i);
			if (!head[CTN_RNN_KIND]) continue;
			int64_t n = 0;
			for (int64_t b = begin; b < end; b++) {
				if (t >= FN(rnn_length)(g, b) || FN(rnn_step)(g, b, t)[0] != i) continue;
				from[n] = g->dquery + (b * g->steps + t) * pad;
				to[n++] = dh + (b - begin) * pad;
			}
			FN(rnn_dots)(n, from, pad, g->params + head[CTN_RNN_B], pad, to, g->hidden);
		}
		int64_t n = 0;
		for (int64_t b = begin; b < end; b++) {
			if (t >= FN(rnn_length)(g, b)) continue;
			int64_t row = b * g->steps + t;
			float *mine = dh + (b - begin) * pad, *d = g->dgates + row * 4 * pad;
			FN(rnn_cell_back)(g->gates + row * 4 * pad, t ? g->c + (row - 1) * pad : NULL, g->c + row * pad, mine,
			                  dc + (b - begin) * pad, d, pad);
			memset(mine, 0, (size_t)pad * 4);
			from[n] = d;
			to[n++] = mine;
		}
		if (t) FN(rnn_dots)(n, from, 4 * pad, g->params + g->whh, 4 * pad, to, g->hidden);
	}
}

// out (hidden x CTN_RNN_PANEL columns of a matrix with rows of ld) = or += sum over r of a[r]' panel[r]
#undef OUTER
#undef OUTERV
#define OUTERV (CTN_RNN_PANEL / CTN_LANES)
#define OUTER (8 / OUTERV) // 8 accumulators
static void FN(rnn_outer)(int64_t rows, const float *const *a, const float *panel, int64_t hidden, float *out,
                          int64_t ld, int add) {
	for (int64_t k = 0; k < hidden; k += OUTER) {
		vf acc[OUTER][OUTERV];
#pragma GCC unroll 8
		for (int r = 0; r < OUTER; r++)
#pragma GCC unroll 8
			for (int i = 0; i < OUTERV; i++) acc[r][i] = (vf){};
		for (int64_t r = 0; r < rows; r++) {
			const float *x = a[r] + k, *from = panel + r * CTN_RNN_PANEL; // rows are padded: x may be read past hidden
			vf b[OUTERV];
#pragma GCC unroll 8
			for (int i = 0; i < OUTERV; i++) b[i] = vload(from + i * CTN_LANES);
#pragma GCC unroll 8
			for (int q = 0; q < OUTER; q++)
#pragma GCC unroll 8
				for (int i = 0; i < OUTERV; i++) acc[q][i] += vset(x[q]) * b[i];
		}
#pragma GCC unroll 8
		for (int q = 0; q < OUTER; q++) {
			if (k + q >= hidden) break;
			float *to = out + (k + q) * ld;
#pragma GCC unroll 8
			for (int i = 0; i < OUTERV; i++) {
				vf sum = acc[q][i];
				if (add) sum += vload(to + i * CTN_LANES);
				vstore(to + i * CTN_LANES, sum);
			}
		}
	}
}

// Columns [at, at + CTN_RNN_PANEL) of the gradients of the gates' weights and biases.
CTN_INLINE void FN(rnn_weights_gates)(const ctn_rnn_args *g, int64_t at, float *panel) {
	int64_t n = 4 * g->pad, filled = 0;
	const float *from[CTN_RNN_ROWS];
	float *start = panel + CTN_RNN_ROWS * CTN_RNN_PANEL;
	int add = 0;
	for (int64_t row = 0; row < g->embeddings; row++) memset(g->sums + row * n + at, 0, CTN_RNN_PANEL * 4);
	memset(start, 0, CTN_RNN_PANEL * 4);
	for (int64_t b = 0; b < g->batch; b++) {
		int64_t length = FN(rnn_length)(g, b);
		for (int64_t t = 0; t < length; t++) {
			const float *d = g->dgates + (b * g->steps + t) * n + at;
			float *sum = t ? g->sums + FN(rnn_input)(g, b, t) * n + at : start;
			FN(rnn_add)(sum, d, 1, CTN_RNN_PANEL);
			if (!t) continue;
			memcpy(panel + filled * CTN_RNN_PANEL, d, CTN_RNN_PANEL * 4);
			from[filled++] = g->h + (b * g->steps + t - 1) * g->pad;
			if (filled < CTN_RNN_ROWS) continue;
			FN(rnn_outer)(filled, from, panel, g->hidden, g->grad + g->whh + at, n, add);
			filled = 0, add = 1;
		}
	}
	FN(rnn_outer)(filled, from, panel, g->hidden, g->grad + g->whh + at, n, add);
	filled = add = 0;
	for (int64_t i = 0; i < g->heads; i++) {
		const int32_t *head = FN(rnn_head)(g, i);
		for (int64_t choice = 0; choice < head[CTN_RNN_CHOICES]; choice++) {
			const float *sum = g->sums + (head[CTN_RNN_ROW] + choice) * n + at;
			FN(rnn_add)(start, sum, 1, CTN_RNN_PANEL);
			memcpy(panel + filled * CTN_RNN_PANEL, sum, CTN_RNN_PANEL * 4);
			from[filled++] = g->params + head[CTN_RNN_EMBEDDING] + choice * g->pad;
			if (filled < CTN_RNN_ROWS) continue;
			FN(rnn_outer)(filled, from, panel, g->hidden, g->grad + g->wih + at, n, add);
			filled = 0, add = 1;
		}
	}
	FN(rnn_outer)(filled, from, panel, g->hidden, g->grad + g->wih + at, n, add);
	memcpy(g->grad + g->bih + at, start, CTN_RNN_PANEL * 4);
	memcpy(g->grad + g->bhh + at, start, CTN_RNN_PANEL * 4);
}

// The groups' partial sums [from, from + n) in order.
CTN_INLINE void FN(rnn_gather)(const ctn_rnn_args *g, float *to, int64_t from, int64_t n) {
	memset(to, 0, (size_t)n * 4);
	for (int64_t i = 0; i < ctn_div_up(g->batch, CTN_RNN_GROUP); i++)
		FN(rnn_add)(to, g->partial + i * g->part + from, 1, n);
}

// Columns [at, at + CTN_RNN_PANEL) of an attention head's gradients.
CTN_INLINE void FN(rnn_weights_attention)(const ctn_rnn_args *g, int64_t index, int64_t at, float *panel) {
	const int32_t *head = FN(rnn_head)(g, index);
	int64_t pad = g->pad, filled = 0, choices = head[CTN_RNN_CHOICES];
	const float *from[CTN_RNN_ROWS];
	int add = 0;
	for (int64_t b = 0; b < g->batch; b++) {
		int64_t length = FN(rnn_length)(g, b);
		for (int64_t t = 0; t < length; t++) {
			if (FN(rnn_step)(g, b, t)[0] != index) continue;
			memcpy(panel + filled * CTN_RNN_PANEL, g->dquery + (b * g->steps + t) * pad + at, CTN_RNN_PANEL * 4);
			from[filled++] = g->h + (b * g->steps + t) * pad;
			if (filled < CTN_RNN_ROWS) continue;
			FN(rnn_outer)(filled, from, panel, g->hidden, g->grad + head[CTN_RNN_B] + at, pad, add);
			filled = 0, add = 1;
		}
	}
	FN(rnn_outer)(filled, from, panel, g->hidden, g->grad + head[CTN_RNN_B] + at, pad, add);
	filled = add = 0;
	for (int64_t choice = 0; choice < choices; choice++) {
		float *dkey = g->dkeys + (head[CTN_RNN_ROW] + choice) * pad + at;
		FN(rnn_gather)(g, dkey, head[CTN_RNN_PART] + choice * pad + at, CTN_RNN_PANEL);
		memcpy(panel + filled * CTN_RNN_PANEL, dkey, CTN_RNN_PANEL * 4);
		from[filled++] = g->params + head[CTN_RNN_EMBEDDING] + choice * pad;
		if (filled < CTN_RNN_ROWS && choice < choices - 1) continue;
		FN(rnn_outer)(filled, from, panel, g->hidden, g->grad + head[CTN_RNN_A] + at, pad, add);
		filled = 0, add = 1;
	}
	FN(rnn_gather)(g, g->grad + head[CTN_RNN_V] + at, head[CTN_RNN_PART] + choices * pad + at, CTN_RNN_PANEL);
}

static int64_t FN(rnn_weights_tasks)(const void *p) {
	const ctn_rnn_args *g = p;
	return (4 + g->heads) * (g->pad / CTN_RNN_PANEL);
}
static void FN(rnn_weights_run)(const void *p, int64_t task, float *scratch) {
	const ctn_rnn_args *g = p;
	int64_t panels = g->pad / CTN_RNN_PANEL, index = task / panels - 4, at = task % panels * CTN_RNN_PANEL;
	if (index < 0) {
		FN(rnn_weights_gates)(g, task * CTN_RNN_PANEL, scratch);
		return;
	}
	const int32_t *head = FN(rnn_head)(g, index);
	if (head[CTN_RNN_KIND]) {
		FN(rnn_weights_attention)(g, index, at, scratch);
		return;
	}
	for (int64_t choice = 0; choice < head[CTN_RNN_CHOICES]; choice++)
		FN(rnn_gather)(g, g->grad + head[CTN_RNN_A] + choice * g->pad + at, head[CTN_RNN_PART] + choice * g->pad + at,
		               CTN_RNN_PANEL);
	if (!at)
		FN(rnn_gather)(g, g->grad + head[CTN_RNN_B], head[CTN_RNN_PART] + head[CTN_RNN_CHOICES] * g->pad,
		               ctn_div_up(head[CTN_RNN_CHOICES], 16) * 16);
}

// The gradient of a head's embeddings: as inputs of the cell and as what its attention looks at.
static int64_t FN(rnn_embeddings_tasks)(const void *p) { return ((const ctn_rnn_args *)p)->heads; }
static void FN(rnn_embeddings_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_rnn_args *g = p;
	const int32_t *head = FN(rnn_head)(g, task);
	const float *gates[CTN_RNN_GROUP], *keys[CTN_RNN_GROUP];
	float *to[CTN_RNN_GROUP];
	for (int64_t choice = 0; choice < head[CTN_RNN_CHOICES]; choice += CTN_RNN_GROUP) {
		int64_t n = ctn_min(CTN_RNN_GROUP, head[CTN_RNN_CHOICES] - choice);
		for (int64_t i = 0; i < n; i++) {
			int64_t row = head[CTN_RNN_ROW] + choice + i;
			gates[i] = g->sums + row * 4 * g->pad;
			keys[i] = g->dkeys + row * g->pad;
			to[i] = g->grad + head[CTN_RNN_EMBEDDING] + (choice + i) * g->pad;
			memset(to[i], 0, (size_t)g->pad * 4);
		}
		FN(rnn_dots)(n, gates, 4 * g->pad, g->params + g->wih, 4 * g->pad, to, g->hidden);
		if (head[CTN_RNN_KIND]) FN(rnn_dots)(n, keys, g->pad, g->params + head[CTN_RNN_A], g->pad, to, g->hidden);
	}
}
#endif
