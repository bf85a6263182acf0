// Optimizers over flat buffers: an update is one launch. All but the schedule are bound by memory.
#include <math.h>
#include "../exec/cuda.cuh"
#include "../exec/reduce.cuh"
#include "optim.h"

namespace {

// x^n, n >= 0, to about n ulp of a double. pow would take longer than the update of a small model.
__device__ __forceinline__ double power(double x, int32_t n) {
	double y = 1;
	for (; n > 0; n /= 2, x *= x)
		if (n % 2) y *= x;
	return y;
}

// The gradient of element i, and its weight after decay.
__device__ __forceinline__ void descent_begin(const ctn_descent_args &a, int64_t i, float &w, float &g) {
	const float decay = a.decayed ? a.decay * a.decayed[i] : a.decay;
	w = a.w[i], g = a.g[i] * (a.scale ? *a.scale : 1.0f);
	if (a.decoupled) w -= w * decay * *a.lr;
	else g += w * decay;
}

// Whether element i stays as it is.
__device__ __forceinline__ bool descent_stays(const ctn_descent_args &a, int64_t i) {
	return a.tensor && !a.changed[a.tensor[i / CTN_OPTIM_GROUP]];
}

} // namespace

// Grid: elements, 20 bytes each.
CTN_ENTRY(cu_sgd, const ctn_descent_args a, CTN_OPTIM_THREADS) {
	const int64_t i = (int64_t)blockIdx.x * CTN_OPTIM_THREADS + threadIdx.x;
	if (i >= a.n || descent_stays(a, i)) return;
	float w, g;
	descent_begin(a, i, w, g);
	const float v = a.v[i] * a.momentum + g;
	a.v[i] = v;
	a.w[i] = w - *a.lr * (a.nesterov ? g + v * a.momentum : v);
}

// Grid: elements, 28 bytes each.
CTN_ENTRY(cu_rmsprop, const ctn_descent_args a, CTN_OPTIM_THREADS) {
	const int64_t i = (int64_t)blockIdx.x * CTN_OPTIM_THREADS + threadIdx.x;
	if (i >= a.n || descent_stays(a, i)) return;
	float w, g, square = a.square[i];
	descent_begin(a, i, w, g);
	square += (g * g - square) * (1 - a.rho);
	const float v = a.v[i] * a.momentum + *a.lr * g / sqrtf(square + a.eps);
	a.square[i] = square, a.v[i] = v;
	a.w[i] = w - v;
}

// Grid: elements, 28 bytes each. Every block works out the terms of the step while the count of steps is still the old
// one; the block that ends last raises it.
CTN_ENTRY(cu_adam, const ctn_adam_args a, CTN_OPTIM_THREADS) {
	STATIC_SHARED(float[CTN_ADAM_TERMS], terms);
	int32_t step = 0;
	if (threadIdx.x == 0) {
		step = *a.step + 1;
		double lr = *a.lr;
		terms[CTN_ADAM_STEP_SIZE] = (float)(lr / (1 - power(a.beta1, step)));
		terms[CTN_ADAM_ROOT] = (float)(1 / sqrt(1 - power(a.beta2, step)));
		terms[CTN_ADAM_KEEP] = a.decoupled ? (float)(1 - lr * a.decay) : 1;
		terms[CTN_ADAM_SHRINK] = (float)(lr * a.decay);
		terms[CTN_ADAM_SCALE] = a.scale ? *a.scale : 1;
	}
	__syncthreads();
	const float scale = terms[CTN_ADAM_SCALE], size = terms[CTN_ADAM_STEP_SIZE], root = terms[CTN_ADAM_ROOT],
	            keep = terms[CTN_ADAM_KEEP];
	const float l2 = a.decoupled ? 0 : (float)a.decay, eps = (float)a.eps;
	const float up1 = (float)(1 - a.beta1), b2 = (float)a.beta2, up2 = (float)(1 - a.beta2);
	const float shrink = a.decoupled ? terms[CTN_ADAM_SHRINK] : 0;
	for (int64_t i = (int64_t)blockIdx.x * CTN_OPTIM_THREADS + threadIdx.x; i < a.n;
	     i += (int64_t)gridDim.x * CTN_OPTIM_THREADS) {
		const float decay = a.decayed ? a.decayed[i] * l2 : l2, kept = a.decayed ? 1 - a.decayed[i] * shrink : keep;
		float w = a.w[i], g = a.g[i] * scale + w * decay, m = a.m[i], v = a.v[i];
		m += (g - m) * up1;
		v = v * b2 + g * g * up2;
		a.m[i] = m;
		a.v[i] = v;
		a.w[i] = w * kept - size * m / (sqrtf(v) * root + eps);
	}
	if (last_block(a.ticket) && threadIdx.x == 0) *a.step = step;
}

// Grid: 4096 elements a block. The block that ends last adds the blocks' sums, thread t those of blocks t, t + 256, ...
CTN_ENTRY(cu_norm, const ctn_norm_args a, CTN_OPTIM_THREADS) {
	const int64_t begin = (int64_t)blockIdx.x * CTN_OPTIM_BLOCK, end = ctn_min(begin + CTN_OPTIM_BLOCK, a.n);
	float part = 0;
#pragma unroll 4
	for (int64_t i = begin + threadIdx.x; i < end; i += CTN_OPTIM_THREADS) part += a.g[i] * a.g[i];
	double sum = block_sum<CTN_OPTIM_THREADS>(part);
	if (threadIdx.x == 0) a.parts[blockIdx.x] = sum;
	if (!last_block(a.ticket)) return;
	sum = 0;
	for (int64_t b = threadIdx.x; b < gridDim.x; b += CTN_OPTIM_THREADS) sum += a.parts[b];
	sum = block_sum<CTN_OPTIM_THREADS>(sum);
	if (threadIdx.x) return;
	double norm = sqrt(sum), factor = a.max / (norm + 1e-6);
	a.out[0] = (float)norm;
	a.out[1] = a.max > 0 && !(factor > 1) ? (float)factor : 1;
}

// Grid: elements, 8 bytes each.
CTN_ENTRY(cu_clamp, const ctn_clamp_args a, CTN_OPTIM_THREADS) {
	const int64_t i = (int64_t)blockIdx.x * CTN_OPTIM_THREADS + threadIdx.x;
	if (i >= a.n) return;
	const float g = a.g[i];
	a.g[i] = g > a.max ? a.max : g < -a.max ? -a.max : g; // a NaN is neither
}

// Grid: elements.
CTN_ENTRY(cu_ema, const ctn_ema_args a, CTN_OPTIM_THREADS) {
	const int64_t i = (int64_t)blockIdx.x * CTN_OPTIM_THREADS + threadIdx.x;
	if (i < a.n) a.mean[i] += (a.w[i] - a.mean[i]) * (1 - a.decay);
}

// One thread computes.
CTN_ENTRY(cu_schedule, const ctn_schedule_args a, 32) {
	if (threadIdx.x) return;
	double step = *a.step, lr = a.peak;
	if (step < a.warmup) lr = a.peak * (step + 1) / a.warmup;
	else if (a.kind != CTN_CONSTANT) {
		double done = a.total > a.warmup ? (step - a.warmup) / (a.total - a.warmup) : 1;
		if (done > 1) done = 1;
		double left = a.kind == CTN_LINEAR ? 1 - done : 0.5 * (1 + cos(M_PI * done));
		lr = a.final + (a.peak - a.final) * left;
	}
	*a.lr = (float)lr;
}
