// Batch norm on sums that other kernels left, where these do not make it themselves.
#include "../tensor/norm.cuh"
#include "norm.h"

namespace {

constexpr int THREADS = CTN_NORM_BLOCK, CHANNELS = CTN_NORM_LANES;

} // namespace

// Grid: 8 channels a block, one sector of a row of sums. Thread (row, lane) adds parts row, row + 64, ...; sums are
// taken around a value of the first part, which is near the mean, so that one pass is enough.
CTN_ENTRY(cu_batchnorm, const ctn_batchnorm_args g, CTN_NORM_BLOCK) {
	STATIC_SHARED(double[3 * THREADS], shared);
	const int64_t j = (int64_t)blockIdx.x * CHANNELS + threadIdx.x % CHANNELS;
	const double around = j < g.c ? g.stats[j] : 0;
	const norm_sums all = add_rows((int)g.parts, CHANNELS, shared, [&](int i) {
		return j < g.c ? forward_part(g, i, j, around) : norm_sums{0, 0, 0};
	});
	if (threadIdx.x < CHANNELS && j < g.c) norm_forward(g, j, around, all);
}

// Grid: channels.
CTN_ENTRY(cu_batchnorm_fixed, const ctn_batchnorm_args g, CTN_NORM_BLOCK) {
	const int64_t j = (int64_t)blockIdx.x * THREADS + threadIdx.x;
	if (j < g.c) norm_apply(g, j, g.running_mean[j], g.running_var[j]);
}

// As cu_batchnorm.
CTN_ENTRY(cu_batchnorm_backward, const ctn_batchnorm_args g, CTN_NORM_BLOCK) {
	STATIC_SHARED(double[3 * THREADS], shared);
	const int64_t j = (int64_t)blockIdx.x * CHANNELS + threadIdx.x % CHANNELS;
	const norm_sums all = add_rows((int)g.parts, CHANNELS, shared, [&](int i) {
		return j < g.c ? backward_part(g, i, j) : norm_sums{0, 0, 0};
	});
	if (threadIdx.x < CHANNELS && j < g.c) norm_backward(g, j, all);
}

// One thread counts.
CTN_ENTRY(cu_batchnorm_count, const ctn_batchnorm_args g, CTN_NORM_BLOCK) {
	if (threadIdx.x == 0) ++*g.batches;
}
