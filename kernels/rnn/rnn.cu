// The controller's rollout and its gradient: whole sequences without leaving the chip.
//
// Four neighbouring threads, a quad, share a hidden unit. Going forward, each of them multiplies a quarter of h with
// the unit's columns of the four gates and of the attention's W2, and after an exchange lane q has the sum of gate q.
// Going back, lane q multiplies the gradients of gate q with its part of the unit's row. Up to 64 units, one attention
// head and a small table of embeddings a block holds all these weights in registers (80 a thread) and works on G
// sequences in turn; a larger network (WIDE) reads them from memory in every step. The sums over decisions that make
// the weights' gradients are products over rows, as in gemm.cu.
#include "../exec/cuda.cuh"
#include "../exec/philox.h"
#include "../exec/reduce.cuh"
#include "rnn.h"

namespace {

constexpr int THREADS = CTN_RNN_THREADS, WARPS = THREADS / 32, UNITS = CTN_RNN_UNITS, MANY = CTN_RNN_SEQUENCES;
static_assert(THREADS == 4 * UNITS && MANY == WARPS, "a quad a unit, a warp a sequence");

__device__ __forceinline__ float quad_sum(float x) {
	x += __shfl_xor_sync(~0u, x, 1);
	return x + __shfl_xor_sync(~0u, x, 2);
}
// Sums four numbers over a quad: lane q gets the sum of x[q].
__device__ __forceinline__ float quad_transpose_sum(const float *x, int q) {
	float low = q & 2 ? x[2] : x[0], high = q & 2 ? x[3] : x[1];
	low += __shfl_xor_sync(~0u, q & 2 ? x[0] : x[2], 2);
	high += __shfl_xor_sync(~0u, q & 2 ? x[1] : x[3], 2);
	float keep = q & 1 ? high : low;
	return keep + __shfl_xor_sync(~0u, q & 1 ? low : high, 1);
}
__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ const int32_t *head_of(const ctn_rnn_args &g, int64_t head) {
	return g.head + head * CTN_RNN_HEAD_INTS;
}
__device__ __forceinline__ bool attends(const int32_t *head) { return head[CTN_RNN_KIND] != 0; }
__device__ __forceinline__ int head_floats(const ctn_rnn_args &g, const int32_t *head) { // of its partial sums
	return head[CTN_RNN_CHOICES] * (int)g.pad +
	       (attends(head) ? (int)g.pad : (int)ctn_div_up(head[CTN_RNN_CHOICES], 16) * 16);
}
// The network's only attention head in a block that holds weights, or none.
__device__ __forceinline__ const int32_t *the_attention(const ctn_rnn_args &g) {
	for (int64_t i = 0; i < g.heads; i++)
		if (attends(head_of(g, i))) return head_of(g, i);
	return nullptr;
}

// A vector in shared memory lies in four pieces, one for each lane of a quad, whose beginnings are in different banks.
struct pieces {
	int size;
	__device__ __forceinline__ int stride() const { return size + 4; }
	__device__ __forceinline__ int floats() const { return 4 * stride(); }
	__device__ __forceinline__ int operator()(int i) const { return i / size * stride() + i % size; }
};

// acc[o] += x . w[o]
template <int OUT, int N>
__device__ __forceinline__ void dot(float (&acc)[OUT], const float (&w)[OUT][N], const float *x) {
#pragma unroll
	for (int i = 0; i < N; i += 4) {
		float4 v = *(const float4 *)(x + i);
#pragma unroll
		for (int o = 0; o < OUT; o++)
			acc[o] += v.x * w[o][i] + v.y * w[o][i + 1] + v.z * w[o][i + 2] + v.w * w[o][i + 3];
	}
}

// ---- forward ------------------------------------------------------------------

// Rows [first, first + N) of a unit's columns: of the four gates, and of W2 where there is a query.
template <int N>
__device__ __forceinline__ void load_columns(float (&w)[5][N], const ctn_rnn_args &g, const int32_t *query, int unit,
                                             int first) {
#pragma unroll
	for (int i = 0; i < N; i++) {
		int64_t k = first + i;
		bool inside = k < g.hidden && unit < g.pad;
#pragma unroll
		for (int gate = 0; gate < 4; gate++)
			w[gate][i] = inside ? g.params[g.whh + (4 * k + gate) * g.pad + unit] : 0.0f;
		w[4][i] = inside && query ? g.params[query[CTN_RNN_B] + k * g.pad + unit] : 0.0f;
	}
}

// A warp takes a decision: the softmax over n logits, and the same choice by the same number as the CPU's. It adds to
// logp and entropy.
__device__ __forceinline__ int decide(const ctn_rnn_args &g, int64_t row, const float *logits, float *weights, int n,
                                      float uniform, float *logp, float *entropy) {
	const int lane = threadIdx.x % 32, choices = (int)g.choices;
	float most = logits[0];
	for (int i = 1; i < n; i++) most = fmaxf(most, logits[i]);
	for (int i = lane; i < n; i += 32) weights[i] = expf(logits[i] - most);
	__syncwarp();
	float sum = 0;
	for (int i = 0; i < n; i++) sum += weights[i];
	int action = 0;
	if (g.given) {
		action = g.given[row];
		if (action < 0 || action >= n) action = 0; // never out of bounds; who gives actions checks them
	} else {
		float at = uniform * sum, below = weights[0];
		while (action < n - 1 && below <= at) below += weights[++action];
	}
	float log_sum = logf(sum), mine = 0;
	for (int i = lane; i < choices; i += 32) {
		float p = i < n ? weights[i] / sum : 0.0f, lp = i < n ? logits[i] - most - log_sum : 0.0f;
		g.p[row * choices + i] = p;
		g.lp[row * choices + i] = lp;
		mine -= p * lp;
	}
	mine = warp_sum(mine);
	if (lane == 0) {
		g.actions[row] = action;
		*logp += logits[action] - most - log_sum;
		*entropy += mine;
	}
	return action;
}

template <int G, bool WIDE> __device__ void rollout(const ctn_rnn_args &g) {
	DYNAMIC_SHARED(float, work);
	STATIC_SHARED(int[G], length);  // decisions; 1 until the first is taken
	STATIC_SHARED(int[G], variant); // where the others begin in the list
	STATIC_SHARED(int[G], input);   // the embedding that the next decision reads
	STATIC_SHARED(int[G], head);    // of this decision
	STATIC_SHARED(int[G], allowed); // its choices
	STATIC_SHARED(float[G], logp);
	STATIC_SHARED(float[G], entropy);
	const int pad = (int)g.pad, steps = (int)g.steps, choices = (int)g.choices;
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, q = threadIdx.x % 4, quad = threadIdx.x / 4;
	const int units =
	        WIDE ? pad : min(pad, UNITS); // the same, but the compiler sees that the loops over them go round once
	const int64_t first = (int64_t)blockIdx.x * G;
	const int count = (int)ctn_min(G, g.batch - first);
	const int slots = WIDE ? (pad + UNITS - 1) / UNITS * THREADS
	                       : THREADS; // a thread's own places: one for each unit that its quad has
	const pieces quarter = {WIDE ? pad / 4 : UNITS / 4};
	float *h = work, *sums = h + G * quarter.floats(), *c = sums + G * slots, *query = c + G * slots,
	      *logits = query + G * pad;
	float *weights = logits + G * choices, *uniform = weights + G * choices;

	for (int i = threadIdx.x; i < G * quarter.floats(); i += THREADS) h[i] = 0;
	for (int i = threadIdx.x; i < count * steps; i += THREADS) {
		uint32_t bits[4] = {};
		if (!g.given)
			ctn_philox(g.seed, g.purpose, (uint32_t)*g.drawn, (uint64_t)(first + i / steps) * 64 + i % steps, bits);
		uniform[i] = ctn_uniform(bits[0]);
		g.actions[first * steps + i] = -1;
	}
	if (threadIdx.x < G) {
		length[threadIdx.x] = (int)threadIdx.x < count;
		input[threadIdx.x] = (int)g.embeddings;
		head[threadIdx.x] = g.list[0], allowed[threadIdx.x] = g.list[1];
		logp[threadIdx.x] = entropy[threadIdx.x] = 0;
	}
	float w[5][WIDE ? 4 : UNITS / 4];
	if (!WIDE) load_columns(w, g, the_attention(g), quad, q * (UNITS / 4));
	__syncthreads();

	for (int t = 0; t < steps; t++) {
		bool any = false;
		for (int s = 0; s < G; s++) any |= t < length[s];
		if (!any) break;
		// The cell: lane q has gate q.
		for (int unit = quad, slot = threadIdx.x; unit < units; unit += UNITS, slot += THREADS) {
#pragma unroll 1
			for (int s = 0; s < G; s++) {
				if (t >= length[s]) continue;
				const int64_t row = (first + s) * steps + t;
				float x = g.inputs[((int64_t)input[s] * 4 + q) * pad + unit];
				if (t) x += sums[s * slots + slot];
				float gate = q == 2 ? tanhf(x) : sigmoid(x);
				g.gates[(row * 4 + q) * pad + unit] = gate;
				float i = __shfl_sync(~0u, gate, lane - q), f = __shfl_sync(~0u, gate, lane - q + 1);
				float u = __shfl_sync(~0u, gate, lane - q + 2), o = __shfl_sync(~0u, gate, lane - q + 3);
				float now = i * u;
				if (t) now += f * c[s * slots + slot];
				c[s * slots + slot] = now;
				if (q) continue;
				float out = o * tanhf(now);
				g.c[row * pad + unit] = now;
				g.h[row * pad + unit] = out;
				h[s * quarter.floats() + quarter(unit)] = out;
			}
		}
		__syncthreads();
		// What h adds to the next decision's gates, and the query of this one's attention.
		for (int unit = quad, slot = threadIdx.x; unit < units; unit += UNITS, slot += THREADS) {
#pragma unroll 1
			for (int s = 0; s < G; s++) {
				if (t >= length[s]) continue;
				const float *x = h + s * quarter.floats() + q * quarter.stride();
				float acc[5] = {};
				if (WIDE) {
					const int32_t *from = head_of(g, head[s]);
					for (int k = 0; k < quarter.size; k += 4) {
						load_columns(w, g, attends(from) ? from : nullptr, unit, q * quarter.size + k);
						dot(acc, w, x + k);
					}
				} else {
					dot(acc, w, x);
				}
				sums[s * slots + slot] = quad_transpose_sum(acc, q);
				acc[4] = quad_sum(acc[4]);
				if (q == 0) query[s * pad + unit] = acc[4];
			}
		}
		__syncthreads();
		// The logits: a warp each.
		const int s = warp % G;
		if (t < length[s]) {
			const int32_t *of = head_of(g, head[s]);
			const int64_t row = (first + s) * steps + t;
			for (int i = warp / G; i < allowed[s]; i += WARPS / G) {
				float sum = 0;
				for (int j = lane; j < pad; j += 32) {
					if (attends(of)) {
						float x = tanhf(g.keys[(int64_t)(of[CTN_RNN_ROW] + i) * pad + j] + query[s * pad + j]);
						g.tanh[(row * g.attended + i) * pad + j] = x;
						sum += x * g.params[of[CTN_RNN_V] + j];
					} else {
						sum += h[s * quarter.floats() + quarter(j)] * g.params[of[CTN_RNN_A] + i * pad + j];
					}
				}
				sum = warp_sum(sum);
				if (lane == 0) logits[s * choices + i] = attends(of) ? sum : sum + g.params[of[CTN_RNN_B] + i];
			}
		}
		__syncthreads();
		if (warp < G && t < length[s]) {
			const int64_t row = (first + s) * steps + t;
			const int from = head_of(g, head[s])[CTN_RNN_ROW];
			int action = decide(g, row, logits + s * choices, weights + s * choices, allowed[s], uniform[s * steps + t],
			                    &logp[s], &entropy[s]);
			__syncwarp(); // every lane has read what lane 0 now writes
			if (lane == 0) {
				input[s] = from + action;
				if (t == 0) variant[s] = g.variants[2 * action], length[s] = 1 + g.variants[2 * action + 1];
				if (t + 1 < length[s])
					head[s] = g.list[2 * (variant[s] + t)], allowed[s] = g.list[2 * (variant[s] + t) + 1];
			}
		}
		__syncthreads();
	}
	if ((int)threadIdx.x < count)
		g.logp[first + threadIdx.x] = logp[threadIdx.x], g.entropy[first + threadIdx.x] = entropy[threadIdx.x];
}

// ---- backward through time ----------------------------------------------------

// A unit's row of gate q, columns [first, first + N): its share of the gradient of h. Rows past hidden are zeros.
template <int N>
__device__ __forceinline__ void load_row(float (&w)[1][N], const ctn_rnn_args &g, const float *matrix, int64_t columns,
                                         int unit, int64_t first, int64_t end) {
#pragma unroll
	for (int i = 0; i < N; i++)
		w[0][i] = unit < g.hidden && first + i < end ? matrix[unit * columns + first + i] : 0.0f;
}

// The gradients of the logits, a warp a decision; and what the block knows of its decisions: their heads and inputs.
template <int G>
__device__ __forceinline__ void back_logits(const ctn_rnn_args &g, int64_t first, int count, int *length, int *head,
                                            int *input) {
	const int lane = threadIdx.x % 32, steps = (int)g.steps, choices = (int)g.choices;
	for (int r = threadIdx.x / 32; r < count * steps; r += WARPS) {
		const int64_t b = first + r / steps, row = first * steps + r;
		const int t = r % steps;
		const int32_t *variant = g.variants + 2 * g.actions[b * steps],
		              *step = t ? g.list + 2 * (variant[0] + t - 1) : g.list;
		const bool in = t <= variant[1];
		if (lane == 0) {
			length[r / steps] = 1 + variant[1];
			g.at[row] = head[r] = in ? step[0] : -1;
			input[r] = t && in ? head_of(g, t > 1 ? step[-2] : g.list[0])[CTN_RNN_ROW] + g.actions[row - 1]
			                   : (int)g.embeddings;
		}
		if (!in) continue;
		const float *p = g.p + row * choices, *lp = g.lp + row * choices;
		float entropy = 0;
		for (int i = lane; i < step[1]; i += 32) entropy -= p[i] * lp[i];
		entropy = warp_sum(entropy);
		for (int i = lane; i < choices; i += 32)
			g.dlogits[row * choices + i] = i < step[1] ? g.dlogp[b] * ((float)(g.actions[row] == i) - p[i]) -
			                                                     g.dentropy[b] * p[i] * (lp[i] + entropy)
			                                           : 0.0f;
	}
}

// From the logits' gradients: the gradient in attention's queries, and in h through linear heads.
__device__ __forceinline__ void back_queries(const ctn_rnn_args &g, int64_t first, int count, const int *head) {
	const int pad = (int)g.pad;
	for (int e = threadIdx.x; e < count * (int)g.steps * pad; e += THREADS) {
		const int r = e / pad, j = e % pad;
		if (head[r] < 0) continue;
		const int32_t *of = head_of(g, head[r]);
		const int64_t row = first * g.steps + r;
		const float *d = g.dlogits + row * g.choices, v = attends(of) ? g.params[of[CTN_RNN_V] + j] : 0.0f;
		float sum = 0;
		for (int i = 0; i < of[CTN_RNN_CHOICES]; i++) {
			if (!attends(of)) {
				sum += d[i] * g.params[of[CTN_RNN_A] + i * pad + j];
			} else if (d[i] != 0) { // choices that were not allowed have no tanh
				float x = g.tanh[(row * g.attended + i) * pad + j];
				sum += d[i] * v * (1 - x * x);
			}
		}
		g.dquery[row * pad + j] = sum;
	}
}

// The heads' own sums over the block's decisions: a thread has an element and goes through the rows.
__device__ __forceinline__ void back_heads(const ctn_rnn_args &g, int64_t first, int count, const int *head,
                                           float *partial, bool add) {
	const int pad = (int)g.pad;
	for (int which = 0; which < (int)g.heads; which++) {
		const int32_t *of = head_of(g, which);
		const int choices = of[CTN_RNN_CHOICES];
		for (int e = threadIdx.x; e < head_floats(g, of); e += THREADS) {
			const int i = e / pad, j = e % pad;
			const bool last = i >= choices, bias = last && !attends(of); // bias: element e - choices * pad
			const float v = attends(of) ? g.params[of[CTN_RNN_V] + j] : 0.0f;
			float sum = 0;
			for (int r = 0; r < count * (int)g.steps; r++) {
				if (head[r] != which) continue;
				const int64_t row = first * g.steps + r;
				const float *d = g.dlogits + row * g.choices, *x = g.tanh + row * g.attended * pad + j;
				if (bias) {
					sum += d[e - choices * pad];
				} else if (last) {
					for (int k = 0; k < choices; k++)
						if (d[k] != 0) sum += d[k] * x[(int64_t)k * pad];
				} else if (!attends(of)) {
					sum += d[i] * g.h[row * pad + j];
				} else if (d[i] != 0) {
					sum += d[i] * v * (1 - x[(int64_t)i * pad] * x[(int64_t)i * pad]);
				}
			}
			float *to = partial + of[CTN_RNN_PART] + e;
			*to = add ? *to + sum : sum;
		}
	}
}

template <int G, bool WIDE> __device__ void bptt(const ctn_rnn_args &g) {
	DYNAMIC_SHARED(float, work);
	STATIC_SHARED(int[G], length);
	STATIC_SHARED(int[G * 64], head); // of each decision: -1 after the end
	STATIC_SHARED(int[G * 64], input);
	const int pad = (int)g.pad, steps = (int)g.steps, q = threadIdx.x % 4, quad = threadIdx.x / 4;
	const int units = WIDE ? pad : min(pad, UNITS),
	          slots = WIDE ? (pad + UNITS - 1) / UNITS * THREADS : THREADS; // as in the rollout
	const pieces gate = {WIDE ? pad : UNITS};
	const int quarter = WIDE ? pad / 4 : UNITS / 4;
	float *d = work, *dc = d + 2 * G * gate.floats(); // d: the gates' gradients of the decision after and of this one
	float *partial = g.partial + blockIdx.x * g.whole, *sums = WIDE ? partial + g.part : dc + G * slots;

	for (int i = threadIdx.x; i < 2 * G * gate.floats(); i += THREADS) d[i] = 0;
	for (int unit = quad; unit < units; unit += UNITS)
		for (int e = 0; e <= (int)g.embeddings; e++) sums[((int64_t)e * 4 + q) * pad + unit] = 0;
	float w[1][WIDE ? 4 : UNITS], w2[1][WIDE ? 4 : UNITS / 4];
	if (!WIDE) {
		const int32_t *attention = the_attention(g);
		load_row(w, g, g.params + g.whh, 4 * pad, quad, q * pad, (q + 1) * pad);
		load_row(w2, g, g.params + (attention ? attention[CTN_RNN_B] : 0), pad, quad, q * quarter, attention ? pad : 0);
	}
	for (int64_t group = blockIdx.x; group * G < g.batch; group += gridDim.x) {
		const int64_t first = group * G;
		const int count = (int)ctn_min(G, g.batch - first);
		__syncthreads(); // the group before is done with the block's memory
		if (threadIdx.x < G) length[threadIdx.x] = 0;
		__syncthreads();
		back_logits<G>(g, first, count, length, head, input);
		__syncthreads();
		back_queries(g, first, count, head);
		back_heads(g, first, count, head, partial, group != blockIdx.x);
		int longest = 0;
		for (int s = 0; s < G; s++) longest = max(longest, length[s]);
		for (int s = 0; s < G; s++)
			for (int slot = threadIdx.x; slot < slots; slot += THREADS) dc[s * slots + slot] = 0;
		__syncthreads();
		for (int t = longest - 1; t >= 0; t--) {
			const float *after = d + (t + 1) % 2 * G * gate.floats();
			float *now = d + t % 2 * G * gate.floats();
			for (int unit = quad, slot = threadIdx.x; unit < units; unit += UNITS, slot += THREADS) {
#pragma unroll 1
				for (int s = 0; s < G; s++) {
					if (t >= length[s]) continue;
					const int64_t row = (first + s) * steps + t;
					const int32_t *of = head_of(g, head[s * steps + t]);
					const float *gates = g.gates + row * 4 * pad + unit, *dquery = g.dquery + row * pad;
					const float i = gates[0], f = gates[pad], u = gates[2 * pad], o = gates[3 * pad];
					const float before = t ? g.c[(row - 1) * pad + unit] : 0.0f,
					            squashed = tanhf(g.c[row * pad + unit]);
					float acc[1] = {};
					if (attends(of)) {
						const float *x = dquery + q * quarter;
						if (WIDE) {
							for (int k = 0; k < quarter; k += 4) {
								load_row(w2, g, g.params + of[CTN_RNN_B], pad, unit, q * quarter + k, pad);
								dot(acc, w2, x + k);
							}
						} else if (q * quarter < pad) {
							dot(acc, w2, x);
						}
					}
					if (t + 1 < length[s]) {
						const float *x = after + s * gate.floats() + q * gate.stride();
						if (WIDE) {
							for (int k = 0; k < pad; k += 4) {
								load_row(w, g, g.params + g.whh, 4 * pad, unit, q * pad + k, (q + 1) * pad);
								dot(acc, w, x + k);
							}
						} else {
							dot(acc, w, x);
						}
					}
					float dh = quad_sum(acc[0]);
					if (!attends(of)) dh += dquery[unit];
					float down = dc[s * slots + slot] + dh * o * (1 - squashed * squashed);
					dc[s * slots + slot] = down * f;
					float dz = dh * squashed * o * (1 - o);
					if (q == 0) dz = down * u * i * (1 - i);
					if (q == 1) dz = down * before * f * (1 - f);
					if (q == 2) dz = down * i * (1 - u * u);
					now[s * gate.floats() + q * gate.stride() + unit] = dz;
					g.dgates[(row * 4 + q) * pad + unit] = dz;
					sums[((int64_t)input[s * steps + t] * 4 + q) * pad + unit] += dz;
				}
			}
			__syncthreads();
		}
	}
	for (int unit = quad; !WIDE && unit < units; unit += UNITS)
		for (int e = 0; e <= (int)g.embeddings; e++)
			partial[g.part + ((int64_t)e * 4 + q) * pad + unit] = sums[((int64_t)e * 4 + q) * pad + unit];
}

// ---- the weights' gradients ---------------------------------------------------

// Tells whether a block has one of the next n jobs; otherwise counts them off.
__device__ __forceinline__ bool among(int64_t &block, int64_t n) {
	if (block < n) return true;
	block -= n;
	return false;
}

// A tile of the gradient of whh, or of a head's W2, over a split's rows: out[k][j] = sum of h[k] d[j], where h is that
// before the decision for whh, and that of the decision for W2.
__device__ __forceinline__ void outer(const ctn_rnn_args &g, int64_t tile, int64_t n, int head, const float *d,
                                      float *out, int64_t begin, int64_t end) {
	constexpr int TILE = CTN_RNN_TILE, STEP = 16;
	STATIC_SHARED(float[STEP][TILE + 4], left);
	STATIC_SHARED(float[STEP][TILE + 4], right);
	const int64_t across = ctn_div_up(n, TILE), k0 = tile / across * TILE, j0 = tile % across * TILE;
	const int x = threadIdx.x % 16 * 4, y = threadIdx.x / 16 * 4;
	float acc[4][4] = {};
	for (int64_t from = begin; from < end; from += STEP) {
		for (int e = threadIdx.x; e < TILE * STEP; e += THREADS) {
			const int64_t row = from + e / TILE, k = k0 + e % TILE, j = j0 + e % TILE;
			const int at = row < end ? g.at[row] : -1;
			const bool in = head < 0 ? at >= 0 && row % g.steps : at == head;
			left[e / TILE][e % TILE] = in && k < g.hidden ? g.h[(head < 0 ? row - 1 : row) * g.pad + k] : 0.0f;
			right[e / TILE][e % TILE] = in && j < n ? d[row * n + j] : 0.0f;
		}
		__syncthreads();
#pragma unroll
		for (int l = 0; l < STEP; l++) {
			const float4 a = *(const float4 *)&left[l][y], b = *(const float4 *)&right[l][x];
			const float u[4] = {a.x, a.y, a.z, a.w}, v[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
			for (int r = 0; r < 4; r++)
#pragma unroll
				for (int c = 0; c < 4; c++) acc[r][c] += u[r] * v[c];
		}
		__syncthreads();
	}
#pragma unroll
	for (int r = 0; r < 4; r++)
#pragma unroll
		for (int c = 0; c < 4; c++)
			if (k0 + y + r < g.hidden && j0 + x + c < n) out[(k0 + y + r) * n + j0 + x + c] = acc[r][c];
}

// Where a weight's sums go: into the gradient, or into a split's part.
__device__ __forceinline__ float *sums_of(const ctn_rnn_args &g, int64_t grad, int64_t part, int64_t split) {
	return g.splits == 1 ? g.grad + grad : g.parts + split * g.weights + part;
}

// Block `block` of all tiles and splits; false: they are fewer.
__device__ __forceinline__ bool outer_blocks(const ctn_rnn_args &g, int64_t &block) {
	const int64_t rows = g.batch * g.steps, down = ctn_div_up(g.hidden, CTN_RNN_TILE);
	const int64_t wide = down * ctn_div_up(4 * g.pad, CTN_RNN_TILE), narrow = down * ctn_div_up(g.pad, CTN_RNN_TILE),
	              tiles = wide + g.attentions * narrow;
	if (!among(block, tiles * g.splits)) return false;
	const int64_t split = block / tiles, begin = split * g.split, end = ctn_min(begin + g.split, rows);
	int64_t tile = block % tiles;
	if (among(tile, wide)) {
		outer(g, tile, 4 * g.pad, -1, g.dgates, sums_of(g, g.whh, 0, split), begin, end);
		return true;
	}
	for (int i = 0; i < (int)g.heads; i++) {
		const int32_t *head = head_of(g, i);
		if (!attends(head) || !among(tile, narrow)) continue;
		outer(g, tile, g.pad, i, g.dquery,
		      sums_of(g, head[CTN_RNN_B], (4 + head[CTN_RNN_NUMBER]) * g.hidden * g.pad, split), begin, end);
		return true;
	}
	return true;
}

// The sums of the blocks' partial sums, in order.
__device__ __forceinline__ void total(const ctn_rnn_args &g, int64_t block) {
	const int64_t e = block * THREADS + threadIdx.x;
	if (e >= g.whole) return;
	float sum = 0;
#pragma unroll 8
	for (int64_t b = 0; b < g.blocks; b++) sum += g.partial[b * g.whole + e];
	g.total[e] = sum;
}

// The gradient of embedding e, element k, by a warp: as an input of the cell and as what its attention looks at.
__device__ __forceinline__ void embedding(const ctn_rnn_args &g, int64_t e, int64_t k) {
	const int lane = threadIdx.x % 32;
	int which = 0;
	while (which + 1 < (int)g.heads && e >= head_of(g, which + 1)[CTN_RNN_ROW]) which++;
	const int32_t *head = head_of(g, which);
	const int64_t choice = e - head[CTN_RNN_ROW];
	const float *gates = g.total + g.part + e * 4 * g.pad, *key = g.total + head[CTN_RNN_PART] + choice * g.pad;
	float sum = 0;
	if (k < g.hidden) {
		for (int64_t j = lane; j < 4 * g.pad; j += 32) sum += gates[j] * g.params[g.wih + k * 4 * g.pad + j];
		if (attends(head))
			for (int64_t j = lane; j < g.pad; j += 32) sum += key[j] * g.params[head[CTN_RNN_A] + k * g.pad + j];
	}
	sum = warp_sum(sum);
	if (lane == 0) g.grad[head[CTN_RNN_EMBEDDING] + choice * g.pad + k] = sum;
}

// Everything that follows from the totals, and the sums of the splits.
__device__ __forceinline__ void finish(const ctn_rnn_args &g, int64_t block) {
	const int64_t gates = 4 * g.pad;
	const float *sums = g.total + g.part;
	if (among(block, ctn_div_up(g.hidden * gates, THREADS))) { // wih: embeddings times the sums of gates
		const int64_t i = block * THREADS + threadIdx.x, k = i / gates, j = i % gates;
		if (k >= g.hidden) return;
		float sum = 0;
		for (int which = 0; which < (int)g.heads; which++) {
			const int32_t *head = head_of(g, which);
			const float *e = g.params + head[CTN_RNN_EMBEDDING] + k, *d = sums + head[CTN_RNN_ROW] * gates + j;
			for (int64_t c = 0; c < head[CTN_RNN_CHOICES]; c++) sum += e[c * g.pad] * d[c * gates];
		}
		g.grad[g.wih + i] = sum;
		return;
	}
	if (among(block, ctn_div_up(gates, THREADS))) {
		const int64_t j = block * THREADS + threadIdx.x;
		if (j >= gates) return;
		float sum = 0;
		for (int64_t e = 0; e <= g.embeddings; e++) sum += sums[e * gates + j];
		g.grad[g.bih + j] = g.grad[g.bhh + j] = sum;
		return;
	}
	if (among(block, ctn_div_up(g.embeddings * g.pad, WARPS))) {
		const int64_t i = block * WARPS + threadIdx.x / 32;
		if (i < g.embeddings * g.pad) embedding(g, i / g.pad, i % g.pad);
		return;
	}
	for (int which = 0; which < (int)g.heads; which++) {
		const int32_t *head = head_of(g, which);
		const float *from = g.total + head[CTN_RNN_PART];
		const int64_t own = head_floats(g, head), keys = head[CTN_RNN_CHOICES] * g.pad, w1 = g.hidden * g.pad;
		if (!among(block, ctn_div_up(attends(head) ? w1 + g.pad : own, THREADS))) continue;
		const int64_t i = block * THREADS + threadIdx.x;
		if (!attends(head)) {
			if (i < own) g.grad[i < keys ? head[CTN_RNN_A] + i : head[CTN_RNN_B] + i - keys] = from[i];
		} else if (i < w1) {
			float sum = 0;
			for (int64_t c = 0; c < head[CTN_RNN_CHOICES]; c++)
				sum += g.params[head[CTN_RNN_EMBEDDING] + c * g.pad + i / g.pad] * from[c * g.pad + i % g.pad];
			g.grad[head[CTN_RNN_A] + i] = sum;
		} else if (i < w1 + g.pad) {
			g.grad[head[CTN_RNN_V] + i - w1] = from[keys + i - w1];
		}
		return;
	}
	const int64_t i = block * THREADS + threadIdx.x, w = g.hidden * g.pad;
	if (i >= g.weights) return;
	float sum = 0;
#pragma unroll 8
	for (int64_t s = 0; s < g.splits; s++) sum += g.parts[s * g.weights + i];
	int64_t to = g.whh + i;
	for (int which = 0; i >= 4 * w && which < (int)g.heads; which++) {
		const int32_t *head = head_of(g, which);
		if (attends(head) && head[CTN_RNN_NUMBER] == i / w - 4) to = head[CTN_RNN_B] + i % w;
	}
	g.grad[to] = sum;
}

} // namespace

// What every embedding adds to the gates, and the keys of attention heads: a thread a column. Grid: columns of the
// gates and of a key, embeddings and the start. The counter moves on here; the rollout reads where it was.
CTN_ENTRY(cu_rnn_prepare, const ctn_rnn_args g, CTN_RNN_THREADS) {
	const int64_t j = (int64_t)blockIdx.x * THREADS + threadIdx.x, e = blockIdx.y, gates = 4 * g.pad;
	if (e == 0 && j == 0 && !g.given) {
		*g.drawn = *g.counter;
		*g.counter = (int32_t)((uint32_t)*g.counter + 1);
	}
	const int32_t *head = nullptr;
	for (int which = 0; e < g.embeddings && which < (int)g.heads; which++)
		if (e >= head_of(g, which)[CTN_RNN_ROW]) head = head_of(g, which);
	const float *from = head ? g.params + head[CTN_RNN_EMBEDDING] + (e - head[CTN_RNN_ROW]) * g.pad : nullptr;
	if (j < gates) {
		float sum = g.params[g.bih + j] + g.params[g.bhh + j];
#pragma unroll 16
		for (int64_t k = 0; k < (head ? g.hidden : 0); k++) sum += from[k] * g.params[g.wih + k * gates + j];
		g.inputs[e * gates + j] = sum;
	} else if (j < gates + g.pad && head && attends(head)) {
		float sum = 0;
#pragma unroll 16
		for (int64_t k = 0; k < g.hidden; k++) sum += from[k] * g.params[head[CTN_RNN_A] + k * g.pad + j - gates];
		g.keys[e * g.pad + j - gates] = sum;
	}
}

// Whole sequences. Grid: groups of 1 or CTN_RNN_SEQUENCES of them. What bounds a block is the latency of a decision:
// four barriers, 80 multiplications a thread and sequence, and the accurate tanh and exp; the tape is 62 KB of writes a
// sequence of NAS-Bench-101.
CTN_ENTRY(cu_rnn_rollout_one, const ctn_rnn_args g, CTN_RNN_THREADS, 1) { rollout<1, false>(g); }
CTN_ENTRY(cu_rnn_rollout_many, const ctn_rnn_args g, CTN_RNN_THREADS, 2) { rollout<MANY, false>(g); }
CTN_ENTRY(cu_rnn_rollout_wide, const ctn_rnn_args g, CTN_RNN_THREADS, 1) { rollout<1, true>(g); }

// The gradient of every decision's gates, queries and logits, and each block's sums for the heads and embeddings. Grid:
// at most CTN_RNN_PARTIALS blocks, which go through the groups.
CTN_ENTRY(cu_rnn_bptt_one, const ctn_rnn_args g, CTN_RNN_THREADS, 1) { bptt<1, false>(g); }
CTN_ENTRY(cu_rnn_bptt_many, const ctn_rnn_args g, CTN_RNN_THREADS, 2) { bptt<MANY, false>(g); }
CTN_ENTRY(cu_rnn_bptt_wide, const ctn_rnn_args g, CTN_RNN_THREADS, 1) { bptt<1, true>(g); }

// The gradients of whh and W2, and the totals over the blocks before. Grid: tiles x splits, then the totals' elements.
CTN_ENTRY(cu_rnn_parts, const ctn_rnn_args g, CTN_RNN_THREADS, 2) {
	int64_t block = blockIdx.x;
	if (!outer_blocks(g, block)) total(g, block);
}

// The gradients of everything else, from the totals. Grid: elements of wih, biases, embeddings, heads; with splits
// those of whh and W2.
CTN_ENTRY(cu_rnn_finish, const ctn_rnn_args g, CTN_RNN_THREADS) { finish(g, blockIdx.x); }

// Both in one launch, for a single block's sums, which are the totals already.
CTN_ENTRY(cu_rnn_gradient, const ctn_rnn_args g, CTN_RNN_THREADS, 2) {
	int64_t block = blockIdx.x;
	if (!outer_blocks(g, block)) finish(g, block);
}
