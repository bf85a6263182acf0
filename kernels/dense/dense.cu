// What surrounds the products of dense layers: bias, ReLU and dropout; the gradient of a bias; heads of a few outputs.
// All are bound by memory.
#include "../exec/cuda.cuh"
#include "../exec/philox.h"
#include "../exec/reduce.cuh"
#include "../tensor/load.cuh"
#include "dense.h"

namespace {

constexpr int WARPS = CTN_DENSE_BLOCK / 32;

// Dropout's factors, 1/keep or 0, of elements 4 block..4 block + 3, which share a block of random numbers.
__device__ __forceinline__ void dropout(const ctn_dense_args &g, int64_t block, float (&factor)[4]) {
	uint32_t bits[4];
	ctn_philox(g.seed, g.stream, (uint32_t)*g.step, (uint64_t)block, bits);
#pragma unroll
	for (int q = 0; q < 4; q++) factor[q] = ctn_uniform(bits[q]) < g.keep ? 1.0f / g.keep : 0.0f;
}

template <class T> __device__ __forceinline__ void dense(const ctn_dense_args &g) {
	const int64_t i = 4 * ((int64_t)blockIdx.x * CTN_DENSE_BLOCK + threadIdx.x), n = ctn_size(g.rows) * g.width;
	const T *in = (const T *)g.in;
	float x[4], factor[4] = {1, 1, 1, 1};
	if (i >= n) return;
	if (g.keep < 1) dropout(g, i / 4, factor);
#pragma unroll
	for (int q = 0; q < 4; q++) x[q] = i + q < n ? to_float(in[i + q]) : 0;
#pragma unroll
	for (int q = 0; q < 4; q++) {
		if (i + q >= n) break;
		if (g.bias) x[q] += g.bias[(uint32_t)(i + q) % (uint32_t)g.width];
		((T *)g.out)[i + q] = stored<T>((g.relu && !(x[q] > 0) ? 0 : x[q]) * factor[q]);
	}
}

template <class T> __device__ __forceinline__ void dense_backward(const ctn_dense_args &g) {
	const int64_t i = 4 * ((int64_t)blockIdx.x * CTN_DENSE_BLOCK + threadIdx.x), n = ctn_size(g.rows) * g.width;
	float d[4], factor[4] = {1, 1, 1, 1};
	if (i >= n) return;
	if (g.keep < 1) dropout(g, i / 4, factor);
#pragma unroll
	for (int q = 0; q < 4; q++)
		d[q] = i + q < n && (!g.relu || to_float(((const T *)g.in)[i + q]) > 0) ? to_float(((const T *)g.grad)[i + q])
		                                                                        : 0;
#pragma unroll
	for (int q = 0; q < 4; q++)
		if (i + q < n) ((T *)g.out)[i + q] = stored<T>(d[q] * factor[q]);
}

} // namespace

// Grid: elements of out, four a thread.
CTN_ENTRY(cu_dense, const ctn_dense_args g, CTN_DENSE_BLOCK) { dense<float>(g); }
CTN_ENTRY(cu_dense_bf16, const ctn_dense_args g, CTN_DENSE_BLOCK) { dense<bf16>(g); }

// Grid: elements of the gradient, four a thread. in is the layer's output.
CTN_ENTRY(cu_dense_backward, const ctn_dense_args g, CTN_DENSE_BLOCK) { dense_backward<float>(g); }
CTN_ENTRY(cu_dense_backward_bf16, const ctn_dense_args g, CTN_DENSE_BLOCK) { dense_backward<bf16>(g); }

namespace {

template <class T> __device__ __forceinline__ void colsum(const ctn_colsum_args &g) {
	STATIC_SHARED(float[WARPS][CTN_COLSUM_COLUMNS], parts);
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const int64_t j = (int64_t)blockIdx.x * CTN_COLSUM_COLUMNS + lane;
	const int64_t first = blockIdx.y * g.split, end = ctn_min(first + g.split, ctn_size(g.rows));
	float sum = 0;
	if (j < g.width) {
#pragma unroll 4
		for (int64_t r = first + warp; r < end; r += WARPS) sum += to_float(((const T *)g.in)[r * g.width + j]);
	}
	parts[warp][lane] = sum;
	__syncthreads();
	if (warp || j >= g.width) return;
	for (int w = 1; w < WARPS; w++) sum += parts[w][lane];
	g.parts[blockIdx.y * g.width + j] = sum;
}

} // namespace

// Grid: 32 columns a block, splits of the rows, of which some may have none. Warp w adds rows w, w + 8, ... of the split.
CTN_ENTRY(cu_colsum, const ctn_colsum_args g, CTN_DENSE_BLOCK) { colsum<float>(g); }
CTN_ENTRY(cu_colsum_bf16, const ctn_colsum_args g, CTN_DENSE_BLOCK) { colsum<bf16>(g); }

// Grid: rows, a warp each.
CTN_ENTRY(cu_rowdot, const ctn_rowdot_args g, CTN_DENSE_BLOCK) {
	const int lane = threadIdx.x % 32;
	const int64_t r = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
	if (r >= ctn_size(g.rows)) return;
	for (int64_t h = 0; h < g.heads; h++) {
		float sum = 0;
		for (int64_t j = lane; j < g.width; j += 32) sum += g.in[r * g.width + j] * g.weight[h * g.width + j];
		sum = warp_sum(sum);
		if (lane == 0) g.out[r * g.heads + h] = sum;
	}
}

// Grid: elements of dinput.
CTN_ENTRY(cu_rowdot_backward, const ctn_rowdot_args g, CTN_DENSE_BLOCK) {
	const int64_t i = (int64_t)blockIdx.x * CTN_DENSE_BLOCK + threadIdx.x;
	if (i >= ctn_size(g.rows) * g.width) return;
	const uint32_t r = (uint32_t)i / (uint32_t)g.width, j = (uint32_t)i % (uint32_t)g.width;
	float sum = 0;
	for (int64_t h = 0; h < g.heads; h++) sum += g.grad[r * g.heads + h] * g.weight[h * g.width + j];
	if (g.mask && !(g.mask[i] > 0)) sum = 0;
	g.dinput[i] = g.accumulate ? g.dinput[i] + sum : sum;
}
