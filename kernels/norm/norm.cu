// Batch norm on sums that other kernels left, in double precision.
#include "../exec/cuda.cuh"
#include "norm.h"

namespace {

constexpr int THREADS = CTN_NORM_BLOCK, CHANNELS = CTN_NORM_LANES, ROWS = THREADS / CHANNELS;

__device__ __forceinline__ void apply(const ctn_batchnorm_args &g, int64_t j, double mean, double variance) {
	double invstd = 1 / sqrt(variance + g.eps), scale = (g.gamma ? g.gamma[j] : 1) * invstd;
	g.mean[j] = (float)mean;
	g.invstd[j] = (float)invstd;
	g.scale[j] = (float)scale;
	g.shift[j] = (float)((g.beta ? g.beta[j] : 0) - mean * scale);
}

// Adds x over the ROWS threads of a channel, in a fixed order. The sum is in all of them.
__device__ __forceinline__ double channel_sum(double x, double (&part)[ROWS][CHANNELS]) {
	const int row = threadIdx.x / CHANNELS, lane = threadIdx.x % CHANNELS;
	part[row][lane] = x;
	__syncthreads();
	for (int distance = ROWS / 2; distance; distance /= 2) {
		if (row < distance) part[row][lane] += part[row + distance][lane];
		__syncthreads();
	}
	x = part[0][lane];
	__syncthreads();
	return x;
}

} // namespace

// Grid: 8 channels a block, one sector of a row of sums. Thread (row, lane) adds parts row, row + 64, ...; sums are
// taken around a value of the first part, which is near the mean, so that one pass is enough.
CTN_ENTRY(cu_batchnorm, const ctn_batchnorm_args g, CTN_NORM_BLOCK) {
	STATIC_SHARED(double[ROWS][CHANNELS], part);
	const int64_t j = (int64_t)blockIdx.x * CHANNELS + threadIdx.x % CHANNELS, c = g.c;
	double total = 0, first = 0, second = 0, around = 0;
	if (j < c) {
		around = g.stats[j];
#pragma unroll 4
		for (int64_t i = threadIdx.x / CHANNELS; i < g.parts; i += ROWS) {
			const float *s = g.stats + 3 * i * c + j;
			double n = g.count[i], d = s[0] - around, sum = s[c];
			total += n;
			first += n * d + sum;
			second += s[2 * c] + d * (n * d + 2 * sum);
		}
	}
	total = channel_sum(total, part);
	first = channel_sum(first, part);
	second = channel_sum(second, part);
	if (threadIdx.x >= CHANNELS || j >= c) return;
	const double away = first / total, mean = around + away;
	double variance = second / total - away * away;
	if (variance < 0) variance = 0; // a channel that is constant but for rounding; a NaN stays
	apply(g, j, mean, variance);
	if (!g.running_mean) return;
	const double momentum = g.batches ? 1 / (double)(*g.batches + 1) : g.momentum;
	float *m = g.running_mean + j, *v = g.running_var + j;
	*m = (float)(*m + momentum * (mean - *m));
	*v = (float)(*v + momentum * (variance * (total > 1 && !g.biased ? total / (total - 1) : 1) - *v));
}

// Grid: channels.
CTN_ENTRY(cu_batchnorm_fixed, const ctn_batchnorm_args g, CTN_NORM_BLOCK) {
	const int64_t j = (int64_t)blockIdx.x * THREADS + threadIdx.x;
	if (j < g.c) apply(g, j, g.running_mean[j], g.running_var[j]);
}

// As cu_batchnorm.
CTN_ENTRY(cu_batchnorm_backward, const ctn_batchnorm_args g, CTN_NORM_BLOCK) {
	STATIC_SHARED(double[ROWS][CHANNELS], part);
	const int64_t j = (int64_t)blockIdx.x * CHANNELS + threadIdx.x % CHANNELS, c = g.c;
	double total = 0, sum = 0, dot = 0;
	if (j < c) {
#pragma unroll 4
		for (int64_t i = threadIdx.x / CHANNELS; i < g.parts; i += ROWS) {
			const float *s = g.stats + 2 * i * c + j;
			total += g.count[i];
			sum += s[0];
			dot += s[c];
		}
	}
	total = channel_sum(total, part);
	sum = channel_sum(sum, part);
	dot = channel_sum(dot, part);
	if (threadIdx.x >= CHANNELS || j >= c) return;
	const double scale = g.scale[j], q = g.frozen ? 0 : -scale * g.invstd[j] * dot / total;
	g.p[j] = (float)scale;
	g.q[j] = (float)q;
	g.r[j] = g.frozen ? 0 : (float)(-scale * sum / total - q * g.mean[j]);
	if (g.dgamma) g.dgamma[j] = (float)(dot + (g.accumulate ? g.dgamma[j] : 0));
	if (g.dbeta) g.dbeta[j] = (float)(sum + (g.accumulate ? g.dbeta[j] : 0));
}

// One thread counts.
CTN_ENTRY(cu_batchnorm_count, const ctn_batchnorm_args g, CTN_NORM_BLOCK) {
	if (threadIdx.x == 0) ++*g.batches;
}
