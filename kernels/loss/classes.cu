// Softmax cross-entropy. Everything is taken relative to the row's largest logit, so that no sum of exponentials
// overflows and no difference of large numbers is formed.
#include "../exec/cuda.cuh"
#include "../exec/reduce.cuh"
#include "../tensor/load.cuh"
#include "classes.h"

namespace {

constexpr int THREADS = CTN_CLASSES_BLOCK;

// The largest of a row, in every thread; the first of a NaN and the rest is any of them.
template <class T> __device__ __forceinline__ float row_most(const T *x, int64_t n) {
	STATIC_SHARED(float[THREADS / 32], part);
	float most = -INFINITY;
	for (int64_t i = threadIdx.x; i < n; i += THREADS) most = fmaxf(most, to_float(x[i]));
	for (int distance = 16; distance; distance /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, distance));
	if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = most;
	__syncthreads();
	for (int w = 0; w < THREADS / 32; w++) most = fmaxf(most, part[w]);
	__syncthreads();
	return most;
}

// The sum of e^((x - most)/t) over a row.
template <class T> __device__ __forceinline__ float row_sum(const T *x, int64_t n, float most, float t) {
	float sum = 0;
	for (int64_t i = threadIdx.x; i < n; i += THREADS) sum += expf((to_float(x[i]) - most) / t);
	return (float)block_sum<THREADS>(sum);
}

template <class T> __device__ __forceinline__ void classes(const ctn_classes_args &g) {
	const int64_t n = g.classes, r = blockIdx.x, label = ctn_min(g.label[r], n - 1);
	const T *x = (const T *)g.logit + r * n;
	const float *y = g.teacher ? g.teacher + r * n : nullptr;
	T *d = g.dlogit ? (T *)g.dlogit + r * n : nullptr;
	float *row = g.row + 3 * r;
	if (label < 0) {
		if (threadIdx.x < 3) row[threadIdx.x] = 0;
		for (int64_t i = threadIdx.x; d && i < n; i += THREADS) d[i] = stored<T>(0.0f);
		return;
	}
	double used = 0; // images that count; exact
	for (int64_t i = threadIdx.x; i < g.n; i += THREADS) used += g.label[i] >= 0;
	used = block_sum<THREADS>(used);
	const float most = row_most(x, n), sum = row_sum(x, n, most, 1), mine = to_float(x[label]);
	float apart = 0, before = 0;
	for (int64_t i = threadIdx.x; i < n; i += THREADS) {
		float v = to_float(x[i]);
		apart += v - most;
		before += ctn_classes_before(i, v, label, mine);
	}
	apart = (float)block_sum<THREADS>(apart);
	before = (float)block_sum<THREADS>(before);
	float loss = logf(sum) - (1 - g.smoothing) * (mine - most) - g.smoothing * (apart / (float)n);
	const float t = g.temperature, ours = 1 - g.weight;
	float most_y = 0, sum_x = 1, sum_y = 1;
	if (y) {
		most_y = row_most(y, n), sum_y = row_sum(y, n, most_y, t), sum_x = row_sum(x, n, most, t);
		const float log_x = logf(sum_x), log_y = logf(sum_y);
		float soft = 0;
		for (int64_t i = threadIdx.x; i < n; i += THREADS) {
			float q = (y[i] - most_y) / t - log_y;
			soft += expf(q) * (q - ((to_float(x[i]) - most) / t - log_x));
		}
		loss = ours * loss + g.weight * t * t * (float)block_sum<THREADS>(soft);
	}
	if (threadIdx.x == 0) row[0] = loss, row[1] = before < 1, row[2] = before < CTN_CLASSES_TOP;
	if (!d) return;
	const float even = g.smoothing / (float)n, share = g.scale / (float)(used > 1 ? used : 1), part = 1 / sum,
	            part_x = 1 / sum_x, part_y = 1 / sum_y;
	__syncthreads(); // the gradient may take the logits' place
	for (int64_t i = threadIdx.x; i < n; i += THREADS) {
		float v = to_float(x[i]) - most, grad = expf(v) * part - even;
		if (i == label) grad -= 1 - g.smoothing;
		if (y) grad = grad * ours + g.weight * t * (expf(v / t) * part_x - expf((y[i] - most_y) / t) * part_y);
		d[i] = stored<T>(grad * share);
	}
}

} // namespace

// Grid: rows, a block each. A row is read some times, from L1 but for the first.
CTN_ENTRY(cu_classes, const ctn_classes_args g, CTN_CLASSES_BLOCK) { classes<float>(g); }
CTN_ENTRY(cu_classes_bf16, const ctn_classes_args g, CTN_CLASSES_BLOCK) { classes<bf16>(g); }

// One block.
CTN_ENTRY(cu_classes_sum, const ctn_classes_args g, CTN_CLASSES_BLOCK) {
	double loss = 0, count[3] = {};
	for (int64_t r = threadIdx.x; r < g.n; r += THREADS) {
		loss += g.row[3 * r];
		count[0] += g.label[r] >= 0, count[1] += g.row[3 * r + 1], count[2] += g.row[3 * r + 2];
	}
	loss = block_sum<THREADS>(loss);
	for (int i = 0; i < 3; i++) count[i] = block_sum<THREADS>(count[i]);
	if (threadIdx.x) return;
	g.loss[0] = (float)(loss / (count[0] > 1 ? count[0] : 1)) * g.scale;
	for (int i = 0; g.count && i < 3; i++) g.count[i] += (int32_t)count[i];
}
