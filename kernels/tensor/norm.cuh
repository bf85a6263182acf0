// Batch norm on sums that kernels leave, in double precision: by a kernel of its own (norm/norm.cu), or by the kernel
// that leaves the sums, whose last block finds all of them there.
#ifndef CTN_TENSOR_NORM_CUH
#define CTN_TENSOR_NORM_CUH
#include "../exec/cuda.cuh"
#include "../exec/reduce.cuh"
#include "norm.h"

// Sums over some parts. Forward: pixels, and the sums of differences from a value near the mean and of their squares.
// Backward: pixels, and the sums of g and of g*zhat.
struct norm_sums {
	double n, first, second;
	__device__ __forceinline__ void add(const norm_sums &s) { n += s.n, first += s.first, second += s.second; }
};

// A part's sums of channel j.
__device__ __forceinline__ norm_sums forward_part(const ctn_batchnorm_args &g, int64_t part, int64_t j, double around) {
	const float *s = g.stats + 3 * part * g.c + j;
	const double n = g.count[part], d = s[0] - around, sum = s[g.c];
	return {n, n * d + sum, s[2 * g.c] + d * (n * d + 2 * sum)};
}
__device__ __forceinline__ norm_sums backward_part(const ctn_batchnorm_args &g, int64_t part, int64_t j) {
	const float *s = g.stats + 2 * part * g.c + j;
	return {(double)g.count[part], s[0], s[g.c]};
}

__device__ __forceinline__ void norm_apply(const ctn_batchnorm_args &g, int64_t j, double mean, double variance) {
	double invstd = 1 / sqrt(variance + g.eps), scale = (g.gamma ? g.gamma[j] : 1) * invstd;
	g.mean[j] = (float)mean;
	g.invstd[j] = (float)invstd;
	g.scale[j] = (float)scale;
	g.shift[j] = (float)((g.beta ? g.beta[j] : 0) - mean * scale);
}

// From the sums of all parts, which were taken around a value.
__device__ __forceinline__ void norm_forward(const ctn_batchnorm_args &g, int64_t j, double around,
                                             const norm_sums &s) {
	const double away = s.first / s.n, mean = around + away;
	double variance = s.second / s.n - away * away;
	if (variance < 0) variance = 0; // a channel that is constant but for rounding; a NaN stays
	norm_apply(g, j, mean, variance);
	if (!g.running_mean) return;
	const double momentum = g.batches ? 1 / (double)(*g.batches + 1) : g.momentum;
	float *m = g.running_mean + j, *v = g.running_var + j;
	*m = (float)(*m + momentum * (mean - *m));
	*v = (float)(*v + momentum * (variance * (s.n > 1 && !g.biased ? s.n / (s.n - 1) : 1) - *v));
}

__device__ __forceinline__ void norm_backward(const ctn_batchnorm_args &g, int64_t j, const norm_sums &s) {
	const double scale = g.scale[j], q = g.frozen ? 0 : -scale * g.invstd[j] * s.second / s.n;
	g.p[j] = (float)scale;
	g.q[j] = (float)q;
	g.r[j] = g.frozen ? 0 : (float)(-scale * s.first / s.n - q * g.mean[j]);
	if (g.dgamma) g.dgamma[j] = (float)(s.second + (g.accumulate ? g.dgamma[j] : 0));
	if (g.dbeta) g.dbeta[j] = (float)(s.first + (g.accumulate ? g.dbeta[j] : 0));
}

// Adds get(i), i < count, over the block: thread (row, lane) has every rows-th of lane's channel, then the upper half of
// the rows is added to the lower one until one is left. The sum is in the threads of row 0. shared has room for three
// doubles a thread.
template <class Get>
__device__ __forceinline__ norm_sums add_rows(int count, int lanes, double *shared, const Get &get) {
	const int rows = (int)blockDim.x / lanes, row = (int)threadIdx.x / lanes, lane = (int)threadIdx.x % lanes;
	norm_sums all = {0, 0, 0};
	double *mine = shared + (row * lanes + lane) * 3;
	if (row < rows) {
#pragma unroll 4
		for (int i = row; i < count; i += rows) all.add(get(i));
		mine[0] = all.n, mine[1] = all.first, mine[2] = all.second;
	}
	__syncthreads();
	for (int left = rows; left > 1;) {
		const int half = (left + 1) / 2;
		if (row < left - half) {
			const double *other = mine + half * lanes * 3;
			all.add({other[0], other[1], other[2]});
			mine[0] = all.n, mine[1] = all.first, mine[2] = all.second;
		}
		__syncthreads();
		left = half;
	}
	return all;
}

// For a block that has left a part's rows of sums, 3 of them forward and 2 backward, in the first `channels` channels
// from c0 on, at most one a thread: it is number `chunk` of those that share the channels. The last block to come here
// makes of all parts what `norm` says. All threads call it; shared has room for three doubles a thread.
//
// A group of parts is added up by the group's last block, and the groups by the last group's, so that no block adds up
// many. Who is last does not matter to the sums.
template <int ROWS>
__device__ CTN_NOINLINE void finish_norm(const ctn_norm *norm, int part, int chunk, int c0, int channels,
                                         void *shared) {
	const ctn_batchnorm_args &g = norm->of;
	const int parts = (int)g.parts;
	if (!parts || channels <= 0) return;
	const int together = norm->together, groups = (parts + together - 1) / together, group = part / together,
	          first = group * together, count = min(together, parts - first);
	int32_t *tickets = norm->tickets + chunk * (groups + 1);
	if (!last_of(tickets + group, count)) return;
	const int64_t j = c0 + (int)threadIdx.x % channels;
	double around = ROWS == 3 ? g.stats[(int64_t)first * ROWS * g.c + j] : 0;
	norm_sums all = add_rows(count, channels, (double *)shared, [&](int i) {
		return ROWS == 3 ? forward_part(g, first + i, j, around) : backward_part(g, first + i, j);
	});
	if (groups > 1) {
		if ((int)threadIdx.x < channels) {
			double *to = norm->sums + (int64_t)group * 4 * g.c + j;
			to[0] = all.n, to[g.c] = all.first, to[2 * g.c] = all.second, to[3 * g.c] = around;
		}
		if (!last_of(tickets + groups, groups)) return;
		around = norm->sums[3 * g.c + j];
		all = add_rows(groups, channels, (double *)shared, [&](int i) {
			const double *s = norm->sums + (int64_t)i * 4 * g.c + j;
			const double n = s[0], sum = s[g.c], d = s[3 * g.c] - around;
			return norm_sums{n, n * d + sum, s[2 * g.c] + d * (n * d + 2 * sum)};
		});
	}
	if ((int)threadIdx.x >= channels) return;
	if (ROWS == 3) norm_forward(g, j, around, all);
	else norm_backward(g, j, all);
}

#endif
