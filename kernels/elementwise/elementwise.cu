// Operations that go through tensors pixel by pixel. All are bound by memory.
#include "../exec/cuda.cuh"
#include "../exec/philox.h"
#include "../exec/reduce.cuh"
#include "../tensor/sweep.cuh"
#include "elementwise.h"

namespace {

// store_part for half a vector of bfloat16.
__device__ __forceinline__ void store_four(bf16 *p, int n, bool wide, const float (&v)[4]) {
	if (wide) *(uint2 *)p = make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
	else
		for (int i = 0; i < n; i++) p[i] = to_bf16(v[i]);
}

// T: how the inputs are stored; O: the output.
template <class T, class O> __device__ __forceinline__ void sum(const ctn_sum_args &g) {
	constexpr int N = LANES<T>, AHEAD = sizeof(O) > sizeof(T) ? 1 : 4; // pixels that a thread has on their way; gates
	                                                                   // are small and have no registers to spare
	const sweep<T> s(g.groups, g.c, g.block, g.pixels);
	forward_sums<N> sums;
	const bool wide = whole<O>(g.out, g.out_ld, s.c, s.n, N);
	for (int i = s.first; i < s.end; i += AHEAD * s.strips) {
		float all[AHEAD][N];
		const int count = min(AHEAD, (s.end - i + s.strips - 1) / s.strips);
		for (int t = 0; t < g.terms; t++) {
			const ctn_input *in = &g.in[t];
			const input_channels<N> k(in, s.c, s.n);
			const bool all_in = input_whole<T>(in, s.c, s.n, N);
			const float scalar = g.scalar[t] ? __ldg(g.scalar[t]) : 1.0f;
#pragma unroll
			for (int q = 0; q < AHEAD; q++) {
				if (q >= count) break;
				const int pixel = i + q * s.strips;
				float v[N];
				input_part<T>(in, k, pixel, s.c, s.n, all_in, v);
				const float factor = g.weight[t] ? __ldg(g.weight[t] + pixel / (int)g.image) * scalar : scalar;
#pragma unroll
				for (int j = 0; j < N; j++) all[q][j] = t ? all[q][j] + v[j] * factor : v[j] * factor;
			}
		}
#pragma unroll
		for (int q = 0; q < AHEAD; q++) {
			if (q >= count) break;
			O *out = (O *)g.out + (i + q * s.strips) * g.out_ld + s.c;
			if constexpr (sizeof(O) < sizeof(T)) store_four(out, s.n, wide, all[q]);
			else store_part(out, s.n, wide, all[q]);
			if (g.stats) sums.add(all[q]);
		}
	}
	if (g.stats) s.leave(sums, g.c, g.stats, g.c, g.norm);
}

template <class T> __device__ __forceinline__ void sum_backward(const ctn_sum_args &g) {
	constexpr int N = LANES<T>;
	const sweep<T> s(g.groups, g.c, g.block, g.pixels);
	const bool wide = whole<T>(g.grad, g.grad_ld, s.c, s.n, N), wide_gate = whole<float>(g.gate, g.c, s.c, s.n, N),
	           wide_mean = whole<T>(g.mean, g.c, s.c, s.n, N);
	for (int t = 0; t < g.terms; t++) {
		const ctn_sink *sink = &g.sink[t];
		if (!sink->d) continue;
		const sink_channels<N> k(sink, s.c, s.n);
		const bool whole_sink = sink_whole<T>(sink, s.c, s.n, N);
		const float scalar = g.scalar[t] ? __ldg(g.scalar[t]) : 1.0f;
		backward_sums<N> sums;
		for (int i0 = s.first; i0 < s.end; i0 += 2 * s.strips) {
			uint4 raw[2];
			sink_raw old[2];
#pragma unroll
			for (int q = 0; q < 2; q++) {
				const int i = i0 + q * s.strips;
				if (i >= s.end) break;
				raw[q] = load_raw((const T *)g.grad + i * g.grad_ld + s.c, s.n, wide);
				old[q] = load_sink<T>(sink, i, s.c, s.n, whole_sink);
			}
#pragma unroll
			for (int q = 0; q < 2; q++) {
				const int i = i0 + q * s.strips, image = i / (int)g.image;
				if (i >= s.end) break;
				float v[N], x[N];
				unpack(raw[q], v);
				if (g.gate) {
					load_part(g.gate + image * g.c + s.c, s.n, wide_gate, x);
#pragma unroll
					for (int j = 0; j < N; j++) v[j] *= x[j];
				}
				if (g.mean) {
					load_part((const T *)g.mean + image * g.c + s.c, s.n, wide_mean, x);
#pragma unroll
					for (int j = 0; j < N; j++) v[j] += x[j] / (float)g.image;
				}
				const float factor = g.weight[t] ? __ldg(g.weight[t] + image) * scalar : scalar;
#pragma unroll
				for (int j = 0; j < N; j++) v[j] *= factor;
				sink_part<T>(sink, k, old[q], i, s.c, s.n, whole_sink, v, sums);
			}
		}
		if (sink->stats) s.leave(sums, g.c, sink->stats, sink->stats_ld, sink->norm);
	}
}

template <class T> __device__ __forceinline__ void mix_gradient(const ctn_mix_args &g) {
	constexpr int N = LANES<T>, WARPS = CTN_SWEEP_THREADS / 32;
	STATIC_SHARED(float[CTN_SUM_TERMS][WARPS], part);
	const sweep<T> s(g.groups, g.c, g.block, g.pixels);
	const bool wide = whole<T>(g.grad, g.grad_ld, s.c, s.n, N);
	for (int t = 0; t < g.terms; t++) {
		const ctn_input *in = &g.in[t];
		const input_channels<N> k(in, s.c, s.n);
		const bool wide_in = input_whole<T>(in, s.c, s.n, N);
		float sum = 0;
#pragma unroll 2
		for (int i = s.first; i < s.end; i += s.strips) {
			float v[N], d[N];
			input_part<T>(in, k, i, s.c, s.n, wide_in, v);
			load_part((const T *)g.grad + i * g.grad_ld + s.c, s.n, wide, d);
#pragma unroll
			for (int j = 0; j < N; j++) sum += v[j] * d[j];
		}
		sum = warp_sum(sum);
		if (threadIdx.x % 32 == 0) part[t][threadIdx.x / 32] = sum;
	}
	__syncthreads();
	if ((int)threadIdx.x >= g.terms) return;
	float sum = 0;
	for (int w = 0; w < WARPS; w++) sum += part[threadIdx.x][w];
	g.partial[((int64_t)blockIdx.y * gridDim.x + blockIdx.x) * CTN_SUM_TERMS + threadIdx.x] = sum;
}

template <class T> __device__ __forceinline__ void gate_gradient(const ctn_gate_args &g) {
	constexpr int N = LANES<T>;
	const sweep<T> s(g.groups, g.c, g.image, g.n * g.image);
	const input_channels<N> k(&g.in, s.c, s.n);
	const bool wide = whole<T>(g.grad, g.grad_ld, s.c, s.n, N), wide_in = input_whole<T>(&g.in, s.c, s.n, N);
	float sum[N] = {};
#pragma unroll 2
	for (int i = s.first; i < s.end; i += s.strips) {
		float v[N], d[N];
		input_part<T>(&g.in, k, i, s.c, s.n, wide_in, v);
		load_part((const T *)g.grad + i * g.grad_ld + s.c, s.n, wide, d);
#pragma unroll
		for (int j = 0; j < N; j++) sum[j] += v[j] * d[j];
	}
	s.add_strips(sum);
	if (s.strip || s.n <= 0) return;
	if (g.sink.d) {
		const sink_channels<N> channels(&g.sink, s.c, s.n);
		backward_sums<N> none;
		sink_part<T>(&g.sink, channels, blockIdx.y, s.c, s.n, sink_whole<T>(&g.sink, s.c, s.n, N), sum, none);
	} else {
		store_part((T *)g.dgate + blockIdx.y * g.c + s.c, s.n, whole<T>(g.dgate, g.c, s.c, s.n, N), sum);
	}
}

// A thread has a channel of a pixel.
template <class T> __device__ __forceinline__ void shuffle(const ctn_shuffle_args &g) {
	const int64_t i = (int64_t)blockIdx.x * CTN_SWEEP_THREADS + threadIdx.x;
	if (i >= g.pixels * g.c) return;
	const int64_t pixel = i / g.c;
	const int c = (int)(i % g.c), groups = (int)g.groups, from = c % groups * ((int)g.c / groups) + c / groups;
	float v[1] = {to_float(((const T *)g.in.z)[pixel * g.in.ld + from])};
	if (g.in.scale) v[0] = v[0] * g.in.scale[from] + g.in.shift[from];
	activate(v, g.in.act);
	if (g.in.gate) v[0] *= g.in.gate[pixel / g.in.image * g.in.gate_ld + from];
	((T *)g.out)[i] = stored<T>(v[0]);
}

template <class T> __device__ __forceinline__ void shuffle_backward(const ctn_shuffle_args &g) {
	constexpr int N = LANES<T>;
	const sweep<T> s(g.lanes, g.c, g.block, g.pixels);
	const sink_channels<N> k(&g.sink, s.c, s.n);
	const bool wide = sink_whole<T>(&g.sink, s.c, s.n, N);
	const int groups = (int)g.groups, width = (int)g.c / groups;
	backward_sums<N> sums;
	for (int i = s.first; i < s.end; i += s.strips) {
		float v[N];
#pragma unroll
		for (int j = 0; j < N; j++)
			v[j] = j < s.n ? to_float(((const T *)g.grad)[i * g.c + (s.c + j) % width * groups + (s.c + j) / width])
			               : 0.0f;
		sink_part<T>(&g.sink, k, i, s.c, s.n, wide, v, sums);
	}
	if (g.sink.stats) s.leave(sums, g.c, g.sink.stats, g.sink.stats_ld, g.sink.norm);
}

} // namespace

// Grid: a sweep. Four pixels of each term are on their way at a time. cu_sum_bf16_f32 stores gates, which are float32;
// cu_sum_f32_bf16 images that come in.
CTN_ENTRY(cu_sum, const ctn_sum_args g, CTN_SWEEP_THREADS) { sum<float, float>(g); }
CTN_ENTRY(cu_sum_bf16, const ctn_sum_args g, CTN_SWEEP_THREADS) { sum<bf16, bf16>(g); }
CTN_ENTRY(cu_sum_bf16_f32, const ctn_sum_args g, CTN_SWEEP_THREADS) { sum<bf16, float>(g); }
CTN_ENTRY(cu_sum_f32_bf16, const ctn_sum_args g, CTN_SWEEP_THREADS) { sum<float, bf16>(g); }

// Grid: a sweep, once for each sink; the gradient comes from the cache after the first. A thread reads the pixels that
// it writes, so the last sink may be the gradient's own buffer. Two pixels are on their way at a time.
CTN_ENTRY(cu_sum_backward, const ctn_sum_args g, CTN_SWEEP_THREADS) { sum_backward<float>(g); }
CTN_ENTRY(cu_sum_backward_bf16, const ctn_sum_args g, CTN_SWEEP_THREADS) { sum_backward<bf16>(g); }

// Grid: a sweep, whose pixels are read once for each term; the gradient comes from the cache after the first.
CTN_ENTRY(cu_mix_gradient, const ctn_mix_args g, CTN_SWEEP_THREADS) { mix_gradient<float>(g); }
CTN_ENTRY(cu_mix_gradient_bf16, const ctn_mix_args g, CTN_SWEEP_THREADS) { mix_gradient<bf16>(g); }

// Grid: terms. Thread i adds the sums of blocks i, i + 256, ...
CTN_ENTRY(cu_mix_reduce, const ctn_mix_args g, CTN_SWEEP_THREADS) {
	double sum = 0;
#pragma unroll 4
	for (int64_t i = threadIdx.x; i < g.parts; i += CTN_SWEEP_THREADS)
		sum += g.partial[i * CTN_SUM_TERMS + blockIdx.x];
	sum = block_sum<CTN_SWEEP_THREADS>(sum);
	if (threadIdx.x == 0) g.out[blockIdx.x] = (float)(g.out[blockIdx.x] + sum);
}

// Grid: a sweep with an image a block.
CTN_ENTRY(cu_gate_gradient, const ctn_gate_args g, CTN_SWEEP_THREADS) { gate_gradient<float>(g); }
CTN_ENTRY(cu_gate_gradient_bf16, const ctn_gate_args g, CTN_SWEEP_THREADS) { gate_gradient<bf16>(g); }

// Grid: elements.
CTN_ENTRY(cu_shuffle, const ctn_shuffle_args g, CTN_SWEEP_THREADS) { shuffle<float>(g); }
CTN_ENTRY(cu_shuffle_bf16, const ctn_shuffle_args g, CTN_SWEEP_THREADS) { shuffle<bf16>(g); }

// Grid: a sweep.
CTN_ENTRY(cu_shuffle_backward, const ctn_shuffle_args g, CTN_SWEEP_THREADS) { shuffle_backward<float>(g); }
CTN_ENTRY(cu_shuffle_backward_bf16, const ctn_shuffle_args g, CTN_SWEEP_THREADS) { shuffle_backward<bf16>(g); }

// Grid: images.
CTN_ENTRY(cu_droppath, const ctn_droppath_args g, CTN_SWEEP_THREADS) {
	const int64_t i = (int64_t)blockIdx.x * CTN_SWEEP_THREADS + threadIdx.x;
	if (i >= g.n) return;
	uint32_t bits[4];
	ctn_philox(g.seed, g.stream, (uint32_t)*g.step, (uint64_t)i / 4, bits);
	const float keep = g.rate ? 1 - (1 - g.keep) * *g.rate : g.keep;
	g.out[i] = ctn_uniform(bits[i % 4]) < keep ? 1 / keep : 0;
}

// Grid: elements.
CTN_ENTRY(cu_zero, const ctn_zero_args g, CTN_SWEEP_THREADS) {
	const int64_t i = (int64_t)blockIdx.x * CTN_SWEEP_THREADS + threadIdx.x;
	if (i < g.n) g.out[i] = 0;
}
