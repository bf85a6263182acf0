// Pooling. All are bound by memory; windows that overlap come from the cache.
#include "../exec/cuda.cuh"
#include "../tensor/sweep.cuh"
#include "pool.h"

namespace {

// One over the pixels of the image that a window that starts at y, x covers, or over all of them.
__device__ __forceinline__ float share_of(const ctn_pool_args &g, int y, int x) {
	const int k = (int)g.k, h = (int)g.h, w = (int)g.w;
	if (g.count_pad) return 1.0f / (float)(k * k);
	return 1.0f / (float)((min(y + k, h) - max(y, 0)) * (min(x + k, w) - max(x, 0)));
}

// The places of N maxima: 8-bit numbers. Rows of them have gaps, so that all N exist.
template <int N> __device__ __forceinline__ void load_places(const int8_t *p, int (&arg)[N]) {
#pragma unroll
	for (int i = 0; i < N; i += 4) {
		const uint32_t four = *(const uint32_t *)(p + i);
#pragma unroll
		for (int j = 0; j < 4; j++) arg[i + j] = four >> 8 * j & 0xff;
	}
}
template <int N> __device__ __forceinline__ void store_places(int8_t *p, const int (&arg)[N]) {
#pragma unroll
	for (int i = 0; i < N; i += 4)
		*(uint32_t *)(p + i) = (uint32_t)(arg[i] | arg[i + 1] << 8 | arg[i + 2] << 16 | arg[i + 3] << 24);
}

template <class T, bool AVERAGE> __device__ __forceinline__ void pool(const ctn_pool_args &g) {
	constexpr int N = LANES<T>;
	const int h = (int)g.h, w = (int)g.w, ho = (int)g.ho, wo = (int)g.wo, k = (int)g.k;
	const sweep<T> s(g.groups, g.c, g.block, g.n * g.ho * g.wo);
	const input_channels<N> channels(&g.in, s.c, s.n);
	const bool wide_in = input_whole<T>(&g.in, s.c, s.n, N), wide = whole<T>(g.out, g.c, s.c, s.n, N);
	for (int o = s.first; o < s.end; o += s.strips) {
		const int n = o / (ho * wo), y0 = o / wo % ho * (int)g.stride - (int)g.pad,
		          x0 = o % wo * (int)g.stride - (int)g.pad;
		const int ky0 = max(0, -y0), ky1 = min(k, h - y0), kx0 = max(0, -x0), kx1 = min(k, w - x0);
		float best[N];
		int arg[N];
#pragma unroll
		for (int i = 0; i < N; i++) best[i] = AVERAGE ? 0.0f : -INFINITY, arg[i] = ky0 * k + kx0;
		for (int ky = ky0; ky < ky1; ky++) {
#pragma unroll 3
			for (int kx = kx0; kx < kx1; kx++) {
				float v[N];
				input_part<T>(&g.in, channels, (n * h + y0 + ky) * w + x0 + kx, s.c, s.n, wide_in, v);
#pragma unroll
				for (int i = 0; i < N; i++) {
					if (AVERAGE) best[i] += v[i];
					else if (!(v[i] <= best[i]))
						best[i] = v[i], arg[i] = ky * k + kx; // so that a NaN wins and is passed on
				}
			}
		}
		if (AVERAGE) {
			const float share = share_of(g, y0, x0);
#pragma unroll
			for (int i = 0; i < N; i++) best[i] *= share;
		} else store_places(g.arg + o * g.arg_ld + s.c, arg);
		store_part((T *)g.out + o * g.c + s.c, s.n, wide, best);
	}
}

// Each pixel of the input collects from the windows that cover it, in the order of the output.
template <class T, bool AVERAGE> __device__ __forceinline__ void pool_backward(const ctn_pool_args &g) {
	constexpr int N = LANES<T>;
	const int h = (int)g.h, w = (int)g.w, ho = (int)g.ho, wo = (int)g.wo, k = (int)g.k, stride = (int)g.stride,
	          pad = (int)g.pad;
	const sweep<T> s(g.groups, g.c, g.block, g.n * g.h * g.w);
	const sink_channels<N> channels(&g.sink, s.c, s.n);
	const bool wide = whole<T>(g.grad, g.c, s.c, s.n, N), wide_sink = sink_whole<T>(&g.sink, s.c, s.n, N);
	backward_sums<N> sums;
	for (int i = s.first; i < s.end; i += s.strips) {
		const int n = i / (h * w), y = i / w % h + pad, x = i % w + pad;
		const int oy0 = y < k ? 0 : (y - k) / stride + 1, oy1 = min(ho - 1, y / stride),
		          ox0 = x < k ? 0 : (x - k) / stride + 1, ox1 = min(wo - 1, x / stride);
		float sum[N] = {};
		for (int oy = oy0; oy <= oy1; oy++) {
#pragma unroll 3
			for (int ox = ox0; ox <= ox1; ox++) {
				const int o = (n * ho + oy) * wo + ox;
				float d[N];
				load_part((const T *)g.grad + o * g.c + s.c, s.n, wide, d);
				if (AVERAGE) {
					const float share = share_of(g, oy * stride - pad, ox * stride - pad);
#pragma unroll
					for (int j = 0; j < N; j++) sum[j] += d[j] * share;
				} else {
					int arg[N];
					load_places(g.arg + o * g.arg_ld + s.c, arg);
					const int mine = (y - oy * stride) * k + x - ox * stride;
#pragma unroll
					for (int j = 0; j < N; j++) sum[j] += arg[j] == mine ? d[j] : 0.0f;
				}
			}
		}
		sink_part<T>(&g.sink, channels, i, s.c, s.n, wide_sink, sum, sums);
	}
	if (g.sink.stats) s.leave(sums, g.c, g.sink.stats, g.sink.stats_ld, g.sink.norm);
}

template <class T> __device__ __forceinline__ void pool_global(const ctn_pool_args &g) {
	constexpr int N = LANES<T>;
	const int image = (int)(g.h * g.w);
	const sweep<T> s(g.groups, g.c, image, g.n * image);
	const input_channels<N> channels(&g.in, s.c, s.n);
	const bool wide = input_whole<T>(&g.in, s.c, s.n, N);
	float sum[N] = {};
#pragma unroll 4
	for (int i = s.first; i < s.end; i += s.strips) {
		float v[N];
		input_part<T>(&g.in, channels, i, s.c, s.n, wide, v);
#pragma unroll
		for (int j = 0; j < N; j++) sum[j] += v[j];
	}
	s.add_strips(sum);
	if (s.strip || s.n <= 0) return;
#pragma unroll
	for (int j = 0; j < N; j++) sum[j] *= 1.0f / (float)image;
	store_part((T *)g.out + blockIdx.y * g.c + s.c, s.n, whole<T>(g.out, g.c, s.c, s.n, N), sum);
}

template <class T> __device__ __forceinline__ void pool_global_backward(const ctn_pool_args &g) {
	constexpr int N = LANES<T>;
	const int image = (int)(g.h * g.w);
	const sweep<T> s(g.groups, g.c, g.block, g.n * image);
	const sink_channels<N> channels(&g.sink, s.c, s.n);
	const bool wide = whole<T>(g.grad, g.c, s.c, s.n, N), wide_sink = sink_whole<T>(&g.sink, s.c, s.n, N);
	backward_sums<N> sums;
	for (int i = s.first; i < s.end; i += s.strips) {
		float v[N];
		load_part((const T *)g.grad + i / image * g.c + s.c, s.n, wide, v);
#pragma unroll
		for (int j = 0; j < N; j++) v[j] *= 1.0f / (float)image;
		sink_part<T>(&g.sink, channels, i, s.c, s.n, wide_sink, v, sums);
	}
	if (g.sink.stats) s.leave(sums, g.c, g.sink.stats, g.sink.stats_ld, g.sink.norm);
}

} // namespace

// Grid: a sweep over the output.
CTN_ENTRY(cu_pool_max, const ctn_pool_args g, CTN_SWEEP_THREADS) { pool<float, false>(g); }
CTN_ENTRY(cu_pool_max_bf16, const ctn_pool_args g, CTN_SWEEP_THREADS) { pool<bf16, false>(g); }
CTN_ENTRY(cu_pool_average, const ctn_pool_args g, CTN_SWEEP_THREADS) { pool<float, true>(g); }
CTN_ENTRY(cu_pool_average_bf16, const ctn_pool_args g, CTN_SWEEP_THREADS) { pool<bf16, true>(g); }

// Grid: a sweep over the input.
CTN_ENTRY(cu_pool_max_backward, const ctn_pool_args g, CTN_SWEEP_THREADS) { pool_backward<float, false>(g); }
CTN_ENTRY(cu_pool_max_backward_bf16, const ctn_pool_args g, CTN_SWEEP_THREADS) { pool_backward<bf16, false>(g); }
CTN_ENTRY(cu_pool_average_backward, const ctn_pool_args g, CTN_SWEEP_THREADS) { pool_backward<float, true>(g); }
CTN_ENTRY(cu_pool_average_backward_bf16, const ctn_pool_args g, CTN_SWEEP_THREADS) { pool_backward<bf16, true>(g); }

// Grid: a sweep with an image a block.
CTN_ENTRY(cu_pool_global, const ctn_pool_args g, CTN_SWEEP_THREADS) { pool_global<float>(g); }
CTN_ENTRY(cu_pool_global_bf16, const ctn_pool_args g, CTN_SWEEP_THREADS) { pool_global<bf16>(g); }

// Grid: a sweep over the input.
CTN_ENTRY(cu_pool_global_backward, const ctn_pool_args g, CTN_SWEEP_THREADS) { pool_global_backward<float>(g); }
CTN_ENTRY(cu_pool_global_backward_bf16, const ctn_pool_args g, CTN_SWEEP_THREADS) { pool_global_backward<bf16>(g); }
