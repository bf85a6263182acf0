// Small kernels out of large ones: products with matrices of at most 25 x 25. A block owns 32 channels, a lane each,
// and keeps their taps in shared memory; its warps share the taps that come out.
#include "../exec/cuda.cuh"
#include "elastic.h"

namespace {

constexpr int CHANNELS = CTN_ELASTIC_CHANNELS, WARPS = CTN_ELASTIC_BLOCK / CHANNELS, TAPS = CTN_ELASTIC_TAPS;

using taps = float[TAPS][CHANNELS];

// x[s] = the inputs of step s, for the first `steps` of them; with all of them x[steps] = what comes out.
template <int N> __device__ __forceinline__ void make_inputs(const ctn_shrink_args &g, int steps, taps (&x)[N]) {
	const int lane = threadIdx.x % CHANNELS, warp = threadIdx.x / CHANNELS;
	const int64_t j = (int64_t)blockIdx.x * CHANNELS + lane;
	for (int i = warp; i < ctn_elastic_inputs(&g, 0); i += WARPS)
		x[0][i][lane] = j < g.c ? g.weight[ctn_elastic_tap(&g, i) * g.ld + j] : 0.0f;
	__syncthreads();
	for (int s = 0; s < steps; s++) {
		const int inputs = (int)ctn_elastic_inputs(&g, s), outputs = (int)ctn_elastic_outputs(&g, s);
		for (int o = warp; o < outputs; o += WARPS) {
			const float *m = g.matrix[s] + ctn_elastic_column(&g, s, o);
			float sum = 0.0f;
#pragma unroll 4
			for (int i = 0; i < inputs; i++) sum += x[s][i][lane] * m[i * inputs];
			x[s + 1][o][lane] = sum;
		}
		__syncthreads();
	}
}

} // namespace

// Grid: 32 channels each.
CTN_ENTRY(cu_shrink, const ctn_shrink_args g, CTN_ELASTIC_BLOCK) {
	STATIC_SHARED(taps[CTN_ELASTIC_STEPS + 1], x);
	const int lane = threadIdx.x % CHANNELS, warp = threadIdx.x / CHANNELS;
	const int64_t j = (int64_t)blockIdx.x * CHANNELS + lane, size = ctn_elastic_size(&g, g.steps);
	if (g.steps) make_inputs(g, (int)g.steps, x);
	for (int t = warp; t < size * size; t += WARPS)
		if (j < g.c) g.out[t * g.c + j] = g.steps ? x[g.steps][t][lane] : g.weight[t * g.ld + j];
}

// Grid: 32 channels each, which nobody else has: the kernel's gradient is added to in place, the matrices' is left as a
// part.
CTN_ENTRY(cu_shrink_backward, const ctn_shrink_args g, CTN_ELASTIC_BLOCK) {
	STATIC_SHARED(taps[CTN_ELASTIC_STEPS], x);
	STATIC_SHARED(taps[2], dy);
	const int lane = threadIdx.x % CHANNELS, warp = threadIdx.x / CHANNELS;
	const int64_t j = (int64_t)blockIdx.x * CHANNELS + lane, size = ctn_elastic_size(&g, g.steps);
	if (!g.steps) {
		for (int t = warp; t < size * size; t += WARPS)
			if (j < g.c) g.dweight[t * g.ld + j] += g.dout[t * g.c + j];
		return;
	}
	make_inputs(g, (int)g.steps - 1, x);
	for (int t = warp; t < size * size; t += WARPS) dy[0][t][lane] = j < g.c ? g.dout[t * g.c + j] : 0.0f;
	__syncthreads();
	float *partial = g.partial + (blockIdx.x + 1) * g.entries;
	int now = 0;
	for (int s = (int)g.steps - 1; s >= 0; s--, now ^= 1) {
		const int inputs = (int)ctn_elastic_inputs(&g, s), outputs = (int)ctn_elastic_outputs(&g, s);
		partial -= inputs * outputs;
		for (int e = threadIdx.x; e < inputs * outputs; e += CTN_ELASTIC_BLOCK) {
			const int i = e / outputs, o = e - i * outputs;
			float sum = 0.0f;
			for (int k = 0; k < CHANNELS; k++) { // each thread begins elsewhere, and so in a bank of its own
				const int channel = (k + lane) % CHANNELS;
				sum += x[s][i][channel] * dy[now][o][channel];
			}
			partial[e] = sum;
		}
		for (int i = warp; i < inputs; i += WARPS) {
			const float *m = g.matrix[s] + i * inputs;
			float sum = 0.0f;
#pragma unroll 4
			for (int o = 0; o < outputs; o++) sum += m[ctn_elastic_column(&g, s, o)] * dy[now][o][lane];
			if (s) dy[now ^ 1][i][lane] = sum;
			else if (j < g.c) g.dweight[ctn_elastic_tap(&g, i) * g.ld + j] += sum;
		}
		__syncthreads();
	}
}

// Grid: entries of the matrices, of which a thread adds the parts in order.
CTN_ENTRY(cu_shrink_reduce, const ctn_shrink_args g, CTN_ELASTIC_BLOCK) {
	const int64_t e = (int64_t)blockIdx.x * CTN_ELASTIC_BLOCK + threadIdx.x;
	if (e >= g.entries) return;
	float sum = 0.0f;
#pragma unroll 4
	for (int64_t b = 0; b < (g.c + CHANNELS - 1) / CHANNELS; b++) sum += g.partial[b * g.entries + e];
	int64_t at = e;
	int s = 0;
	for (;; s++) {
		const int64_t here = ctn_elastic_inputs(&g, s) * ctn_elastic_outputs(&g, s);
		if (at < here) break;
		at -= here;
	}
	const int64_t outputs = ctn_elastic_outputs(&g, s);
	g.dmatrix[s][at / outputs * ctn_elastic_inputs(&g, s) + ctn_elastic_column(&g, s, at % outputs)] += sum;
}
