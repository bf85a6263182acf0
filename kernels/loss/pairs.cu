// Losses over scores and pairs of scores, with their gradients. Sums have fixed orders, so nothing is added atomically:
// every example looks at all its pairs.
#include "../exec/cuda.cuh"
#include "../exec/reduce.cuh"
#include "pairs.h"

namespace {

constexpr int WARPS = CTN_LOSS_BLOCK / 32, EXAMPLES = CTN_PAIRLIST_EXAMPLES;

__device__ __forceinline__ void cross_entropy(float z, float target, float &loss, float &slope) {
	float e = expf(-fabsf(z));
	loss = log1pf(e) + fmaxf(z, 0.0f) - target * z;
	slope = (z >= 0 ? 1.0f : e) / (1.0f + e) - target;
}

// The loss of a pair with logit z and its derivative. dy: y_i - y_j; variance: of dy, with noise.
__device__ __forceinline__ void pair(const ctn_allpairs_args &g, float z, float dy, float variance, float &loss,
                                     float &slope) {
	if (g.kind == CTN_HINGE) {
		float sign = dy > 0 ? 1.0f : dy < 0 ? -1.0f : 0.0f, gap = g.margin - sign * z;
		bool on = gap > 0 && sign != 0;
		loss = on ? gap : 0.0f;
		slope = on ? -sign : 0.0f;
		return;
	}
	float target = g.noise  ? 1.0f / (1.0f + expf(-1.702f * dy * rsqrtf(variance)))
	               : dy > 0 ? 1.0f
	               : dy < 0 ? 0.0f
	                        : g.tie;
	cross_entropy(z, target, loss, slope);
}

__device__ __forceinline__ float kept(bool accumulate, const float *p) { return accumulate ? *p : 0.0f; }

// Pair k of a list: its loss and derivative, both by weight but not yet divided by the sum of weights, and the weight.
struct listed_pair {
	float loss, slope, weight;
};
__device__ __forceinline__ listed_pair of_list(const ctn_pairlist_args &g, int64_t k) {
	const int64_t a = g.a[k], b = g.b[k];
	const float z = g.heads == 1 ? g.score[a] - g.score[b] : g.score[2 * a] + g.score[2 * b + 1] + g.bias[0],
	            weight = g.weight ? g.weight[k] : 1.0f;
	float loss, slope;
	cross_entropy(z, g.target[k], loss, slope);
	return {loss * weight, slope * weight, weight};
}

} // namespace

// Grid: examples, a warp each, which meets the other n - 1 in tiles of shared memory: lane l has those of number l, l +
// 32, ... Bound by arithmetic, n² times about 60 instructions.
CTN_ENTRY(cu_allpairs, const ctn_allpairs_args g, CTN_LOSS_BLOCK) {
	STATIC_SHARED(float[CTN_LOSS_BLOCK], first);  // the score in the first place
	STATIC_SHARED(float[CTN_LOSS_BLOCK], second); // and in the second: with one head the same
	STATIC_SHARED(float[CTN_LOSS_BLOCK], label);
	STATIC_SHARED(float[CTN_LOSS_BLOCK], noise);
	const int lane = threadIdx.x % 32;
	const int64_t n = ctn_size(g.n), i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
	if ((int64_t)blockIdx.x * WARPS >= n) return;
	const bool two = g.heads == 2;
	float u = 0, v = 0, y = 0, sigma = 0, bias = two ? g.bias[0] : 0.0f;
	if (i < n) {
		u = g.score[i * g.heads], v = two ? g.score[i * 2 + 1] : -u, y = g.label[i];
		if (g.noise) sigma = g.noise[i];
	}
	float loss = 0, slope = 0, reverse = 0;
	for (int64_t j0 = 0; j0 < n; j0 += CTN_LOSS_BLOCK) {
		const int t = threadIdx.x, count = (int)ctn_min(CTN_LOSS_BLOCK, n - j0);
		if (t < count) {
			first[t] = g.score[(j0 + t) * g.heads];
			second[t] = two ? g.score[(j0 + t) * 2 + 1] : -first[t];
			label[t] = g.label[j0 + t];
			noise[t] = g.noise ? g.noise[j0 + t] : 0.0f;
		}
		__syncthreads();
		for (int q = lane; q < count && i < n; q += 32) {
			if (j0 + q == i) continue;
			float l, d, dy = y - label[q], variance = sigma * sigma + noise[q] * noise[q];
			pair(g, u + second[q] + bias, dy, variance, l, d);
			loss += l;
			slope += d;
			if (!two) continue;
			pair(g, first[q] + v + bias, -dy, variance, l, d);
			reverse += d;
		}
		__syncthreads();
	}
	loss = warp_sum(loss);
	slope = warp_sum(slope);
	if (two) reverse = warp_sum(reverse);
	if (lane || i >= n) return;
	// With one head each pair is met from both sides and counts once; with two heads both orders are pairs of their
	// own.
	float ordered = (float)n * (float)(n - 1), scale = n > 1 ? (two ? 1.0f : 2.0f) / ordered : 0.0f;
	float *out = g.dscore + i * g.heads;
	out[0] = kept(g.accumulate, out) + slope * scale;
	g.row[i] = loss / ordered;
	if (!two) return;
	out[1] = kept(g.accumulate, out + 1) + reverse * scale;
	g.row[n + i] = slope * scale;
}

// One block.
CTN_ENTRY(cu_allpairs_sum, const ctn_allpairs_args g, CTN_SUM_BLOCK) {
	const int64_t n = ctn_size(g.n);
	const bool two = g.heads == 2;
	double loss = 0, dbias = 0;
	for (int64_t i = threadIdx.x; i < n && n > 1; i += CTN_SUM_BLOCK) {
		loss += g.row[i];
		if (two) dbias += g.row[n + i];
	}
	loss = block_sum<CTN_SUM_BLOCK>(loss);
	if (two) dbias = block_sum<CTN_SUM_BLOCK>(dbias);
	if (threadIdx.x) return;
	g.loss[0] = kept(g.accumulate, g.loss) + (float)loss;
	if (two) g.dbias[0] = kept(g.accumulate, g.dbias) + (float)dbias;
}

// Grid: pairs. Writes each pair's derivative, by weight but not yet divided by the sum of weights, and the block's
// sums.
CTN_ENTRY(cu_pairlist, const ctn_pairlist_args g, CTN_LOSS_BLOCK) {
	const int64_t n = ctn_size(g.pairs), k = (int64_t)blockIdx.x * CTN_LOSS_BLOCK + threadIdx.x;
	if ((int64_t)blockIdx.x * CTN_LOSS_BLOCK >= n) return;
	listed_pair p = {0, 0, 0};
	if (k < n) {
		p = of_list(g, k);
		g.slope[k] = p.slope;
	}
	double sums[3] = {block_sum<CTN_LOSS_BLOCK>(p.loss), block_sum<CTN_LOSS_BLOCK>(p.weight),
	                  block_sum<CTN_LOSS_BLOCK>(p.slope)};
	if (threadIdx.x < 3)
		g.parts[3 * blockIdx.x + threadIdx.x] = threadIdx.x == 0 ? sums[0] : threadIdx.x == 1 ? sums[1] : sums[2];
}

namespace {

// Adds what meets a block's 16 examples: thread t has pairs t, t + 256, ... Block 0 also writes the loss and the bias's
// gradient. FEW: every block works the pairs out for itself.
template <bool FEW> __device__ __forceinline__ void add_list(const ctn_pairlist_args &g) {
	STATIC_SHARED(float[WARPS][2 * EXAMPLES], warps);
	const int64_t n = ctn_size(g.pairs), parts = FEW ? n : ctn_div_up(n, CTN_LOSS_BLOCK);
	const int64_t i0 = (int64_t)blockIdx.x * EXAMPLES, values = ctn_min(EXAMPLES, ctn_size(g.examples) - i0) * g.heads;
	if (blockIdx.x && values <= 0) return;
	double weights = 0, loss = 0, dbias = 0;
	for (int64_t i = threadIdx.x; i < parts; i += CTN_LOSS_BLOCK) {
		if (FEW) {
			const listed_pair p = of_list(g, i);
			loss += p.loss, weights += p.weight, dbias += p.slope;
		} else {
			loss += g.parts[3 * i], weights += g.parts[3 * i + 1], dbias += g.parts[3 * i + 2];
		}
	}
	weights = block_sum<CTN_LOSS_BLOCK>(weights);
	const float scale = weights > 0 ? g.scale / (float)weights : 0.0f;
	if (blockIdx.x == 0) {
		loss = block_sum<CTN_LOSS_BLOCK>(loss);
		dbias = block_sum<CTN_LOSS_BLOCK>(dbias);
		if (threadIdx.x == 0) {
			g.loss[0] = kept(g.accumulate, g.loss) + (float)(loss * scale);
			if (g.dbias) g.dbias[0] = kept(g.accumulate, g.dbias) + (g.heads == 2 ? (float)(dbias * scale) : 0.0f);
		}
	}
	float sum[2][EXAMPLES] = {}; // of the first and of the second place
	for (int64_t k = threadIdx.x; k < n; k += CTN_LOSS_BLOCK) {
		int32_t a = g.a[k] - (int32_t)i0, b = g.b[k] - (int32_t)i0;
		if ((uint32_t)a >= EXAMPLES && (uint32_t)b >= EXAMPLES) continue;
		const float slope = FEW ? of_list(g, k).slope : g.slope[k];
#pragma unroll
		for (int q = 0; q < EXAMPLES; q++) {
			if (a == q) sum[0][q] += slope;
			if (b == q) sum[1][q] += slope;
		}
	}
#pragma unroll
	for (int q = 0; q < EXAMPLES; q++) {
		float x = warp_sum(sum[0][q]), y = warp_sum(sum[1][q]);
		if (threadIdx.x % 32) continue;
		if (g.heads == 1) warps[threadIdx.x / 32][q] = x - y;
		else warps[threadIdx.x / 32][2 * q] = x, warps[threadIdx.x / 32][2 * q + 1] = y;
	}
	__syncthreads();
	if (threadIdx.x >= values) return;
	float total = 0, *out = g.dscore + i0 * g.heads + threadIdx.x;
	for (int w = 0; w < WARPS; w++) total += warps[w][threadIdx.x];
	*out = kept(g.accumulate, out) + total * scale;
}

} // namespace

// Grid: 16 examples a block, which reads the whole list: behind cu_pairlist, bound by the list's way from L2,
// (examples/16) times 12 bytes a pair; or alone, for at most CTN_PAIRLIST_FEW pairs, bound by latency.
CTN_ENTRY(cu_pairlist_sum, const ctn_pairlist_args g, CTN_LOSS_BLOCK) { add_list<false>(g); }
CTN_ENTRY(cu_pairlist_few, const ctn_pairlist_args g, CTN_LOSS_BLOCK) { add_list<true>(g); }

// One block: a batch is small.
CTN_ENTRY(cu_squared, const ctn_squared_args g, CTN_SUM_BLOCK) {
	const int64_t n = ctn_size(g.n);
	double sum = 0;
	for (int64_t i = threadIdx.x; i < n; i += CTN_SUM_BLOCK) {
		float d = g.score[i] - g.label[i];
		sum += (double)d * d;
		g.dscore[i] = kept(g.accumulate, g.dscore + i) + 2 * d / (float)n;
	}
	sum = block_sum<CTN_SUM_BLOCK>(sum);
	if (threadIdx.x == 0) g.loss[0] = kept(g.accumulate, g.loss) + (n ? (float)(sum / (double)n) : 0.0f);
}
