// The gated unit of the node-by-node encoder, and the elementwise parts of a dense layer. All are bound by memory.
#include "../exec/cuda.cuh"
#include "../exec/philox.h"
#include "../tensor/load.cuh"
#include "gated.h"

namespace {

// Where a thread's element of a rows x width matrix lies: in the matrix, in one of rows x 2 width, and in its label's row of a table.
struct place {
	int64_t single, twice, table;
};
__device__ __forceinline__ bool place_of(const ctn_gated_args &g, place &p) {
	const int64_t i = (int64_t)blockIdx.x * CTN_GRAPH_BLOCK + threadIdx.x;
	if (i >= ctn_size(g.rows) * g.width) return false;
	const uint32_t r = (uint32_t)i / (uint32_t)g.width, j = (uint32_t)i % (uint32_t)g.width;
	p = {i, r * 2 * g.width + j, g.label[r] * 2 * g.width + j};
	return true;
}

// Dropout's factors, 1/keep or 0, of elements 4 block..4 block + 3, which share a block of random numbers.
__device__ __forceinline__ void dropout(const ctn_dense_args &g, int64_t block, float (&factor)[4]) {
	uint32_t bits[4];
	ctn_philox(g.seed, g.stream, (uint32_t)*g.step, (uint64_t)block, bits);
#pragma unroll
	for (int q = 0; q < 4; q++) factor[q] = ctn_uniform(bits[q]) < g.keep ? 1.0f / g.keep : 0.0f;
}

template <class T> __device__ __forceinline__ void dense(const ctn_dense_args &g) {
	const int64_t i = 4 * ((int64_t)blockIdx.x * CTN_GRAPH_BLOCK + threadIdx.x), n = ctn_size(g.rows) * g.width;
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
	const int64_t i = 4 * ((int64_t)blockIdx.x * CTN_GRAPH_BLOCK + threadIdx.x), n = ctn_size(g.rows) * g.width;
	float d[4], factor[4] = {1, 1, 1, 1};
	if (i >= n) return;
	if (g.keep < 1) dropout(g, i / 4, factor);
#pragma unroll
	for (int q = 0; q < 4; q++) d[q] = i + q < n && (!g.relu || to_float(((const T *)g.in)[i + q]) > 0) ? to_float(((const T *)g.grad)[i + q]) : 0;
#pragma unroll
	for (int q = 0; q < 4; q++)
		if (i + q < n) ((T *)g.out)[i + q] = stored<T>(d[q] * factor[q]);
}

} // namespace

// Grid: elements of out.
extern "C" __global__ void __launch_bounds__(CTN_GRAPH_BLOCK) cu_gated(const ctn_gated_args g) {
	place p;
	if (!place_of(g, p)) return;
	const int64_t w = g.width;
	float z = g.table[p.table], t = g.table[p.table + w], a = 0;
	if (g.heard) {
		a = g.heard[p.single];
		z += g.scale[p.table] * g.product[p.twice];
		t += g.scale[p.table + w] * g.product[p.twice + w];
	}
	z = 1.0f / (1.0f + expf(-z));
	t = tanhf(t);
	g.gates[p.twice] = z;
	g.gates[p.twice + w] = t;
	g.out[p.single] = z * t + (1.0f - z) * a;
}

// Grid: elements of grad.
extern "C" __global__ void __launch_bounds__(CTN_GRAPH_BLOCK) cu_gated_backward(const ctn_gated_args g) {
	place p;
	if (!place_of(g, p)) return;
	const int64_t w = g.width;
	float z = g.gates[p.twice], t = g.gates[p.twice + w], d = g.grad[p.single], a = g.heard ? g.heard[p.single] : 0.0f;
	float dz = d * (t - a) * z * (1.0f - z), dt = d * z * (1.0f - t * t);
	g.gates[p.twice] = dz;
	g.gates[p.twice + w] = dt;
	if (!g.heard) return;
	g.dheard[p.single] = d * (1.0f - z);
	g.dproduct[p.twice] = dz * g.scale[p.table];
	g.dproduct[p.twice + w] = dt * g.scale[p.table + w];
	g.product[p.twice] *= dz;
	g.product[p.twice + w] *= dt;
}

// Grid: elements of out, four a thread.
extern "C" __global__ void __launch_bounds__(CTN_GRAPH_BLOCK) cu_dense(const ctn_dense_args g) { dense<float>(g); }
extern "C" __global__ void __launch_bounds__(CTN_GRAPH_BLOCK) cu_dense_bf16(const ctn_dense_args g) { dense<bf16>(g); }

// Grid: elements of the gradient, four a thread. in is the layer's output.
extern "C" __global__ void __launch_bounds__(CTN_GRAPH_BLOCK) cu_dense_backward(const ctn_dense_args g) { dense_backward<float>(g); }
extern "C" __global__ void __launch_bounds__(CTN_GRAPH_BLOCK) cu_dense_backward_bf16(const ctn_dense_args g) { dense_backward<bf16>(g); }
