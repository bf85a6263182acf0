// Reading and writing tensors through what stands before their consumer, on a GPU: what load.h is for the CPU.
//
// T is how tensors are stored, float or bf16. A thread works on N channels of a pixel at a time, of which n <= N exist;
// the others read as zeros and are not written. `wide` says that all N exist and lie on a multiple of 16 bytes, and is
// the same for every pixel: whole() finds out. What is one a channel is loaded once, as a *_channels, for all pixels of
// a thread.
//
//   input_channels<N> k(&g.in, c, n);
//   input_part<T>(&g.in, k, pixel, c, n, wide, v);
//
//   gradient_channels<N> k(&g.grad, c, n);
//   gradient_part<T>(...);
//
//   sink_channels<N> k(&g.sink, c, n);
//   sink_part<T>(..., v, sums);
//
// Channels count from the tensor's first; so do those of `rows`.
#ifndef CTN_TENSOR_LOAD_CUH
#define CTN_TENSOR_LOAD_CUH
#include "../exec/cuda.cuh"
#include "norm.cuh"
#include "tensor.h"

__device__ __forceinline__ float to_float(float x) { return x; }
template <class T> __device__ __forceinline__ T stored(float x);
template <> __device__ __forceinline__ float stored<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 stored<bf16>(float x) { return to_bf16(x); }

// Channels that 16 bytes hold.
template <class T> constexpr int LANES = 16 / (int)sizeof(T);

template <class T> __device__ __forceinline__ bool whole(const void *p, int64_t ld, int c, int n, int lanes) {
	const uint64_t size = sizeof(T), bytes = lanes * size < 16 ? lanes * size : 16;
	return n == lanes && (((uint64_t)p | (uint64_t)ld * size | (uint64_t)c * size) & (bytes - 1)) == 0;
}

// n channels as they are stored, for unpack: a thread that has several on their way hides the memory's latency.
__device__ __forceinline__ uint4 load_raw(const float *p, int n, bool wide) {
	if (wide) return *(const uint4 *)p;
	return make_uint4(n > 0 ? __float_as_uint(p[0]) : 0, n > 1 ? __float_as_uint(p[1]) : 0,
	                  n > 2 ? __float_as_uint(p[2]) : 0, n > 3 ? __float_as_uint(p[3]) : 0);
}
__device__ __forceinline__ uint4 load_raw(const bf16 *p, int n, bool wide) {
	if (wide) return *(const uint4 *)p;
	uint32_t pair[4] = {};
#pragma unroll
	for (int i = 0; i < 8; i++)
		if (i < n) pair[i / 2] |= (uint32_t)p[i].bits << i % 2 * 16;
	return make_uint4(pair[0], pair[1], pair[2], pair[3]);
}
__device__ __forceinline__ void unpack(uint4 x, float (&v)[4]) {
	v[0] = __uint_as_float(x.x), v[1] = __uint_as_float(x.y), v[2] = __uint_as_float(x.z), v[3] = __uint_as_float(x.w);
}
__device__ __forceinline__ void unpack(uint4 x, float (&v)[8]) {
	const uint32_t pair[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
	for (int i = 0; i < 4; i++) {
		float2 f = unpack_bf16(pair[i]);
		v[2 * i] = f.x, v[2 * i + 1] = f.y;
	}
}

// The same for four channels, where the registers of more are not to be had: 8 bytes of bfloat16.
template <class T> struct quad {
	uint4 w;
};
template <> struct quad<bf16> {
	uint2 w;
};
__device__ __forceinline__ quad<float> load_quad(const float *p, int n, bool wide) { return {load_raw(p, n, wide)}; }
__device__ __forceinline__ quad<bf16> load_quad(const bf16 *p, int n, bool wide) {
	if (wide) return {*(const uint2 *)p};
	uint4 x = load_raw(p, min(n, 4), false);
	return {make_uint2(x.x, x.y)};
}
__device__ __forceinline__ void unpack(quad<float> x, float (&v)[4]) { unpack(x.w, v); }
__device__ __forceinline__ void unpack(quad<bf16> x, float (&v)[4]) {
	float2 low = unpack_bf16(x.w.x), high = unpack_bf16(x.w.y);
	v[0] = low.x, v[1] = low.y, v[2] = high.x, v[3] = high.y;
}
// The q'th four of a load_raw.
template <class T> __device__ __forceinline__ quad<T> quad_of(uint4 x, int q);
template <> __device__ __forceinline__ quad<float> quad_of<float>(uint4 x, int) { return {x}; }
template <> __device__ __forceinline__ quad<bf16> quad_of<bf16>(uint4 x, int q) {
	return {q ? make_uint2(x.z, x.w) : make_uint2(x.x, x.y)};
}

template <int N, class T> __device__ __forceinline__ void load_part(const T *p, int n, bool wide, float (&v)[N]) {
	constexpr int L = LANES<T>;
	static_assert(N % L == 0, "");
#pragma unroll
	for (int i = 0; i < N; i += L) {
		float one[L];
		unpack(load_raw(p + i, n - i, wide), one);
#pragma unroll
		for (int j = 0; j < L; j++) v[i + j] = one[j];
	}
}

// Stores v and leaves in it what was stored.
template <int N> __device__ __forceinline__ void store_part(float *p, int n, bool wide, float (&v)[N]) {
	if (wide) {
#pragma unroll
		for (int i = 0; i < N; i += 4) *(float4 *)(p + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
		return;
	}
#pragma unroll
	for (int i = 0; i < N; i++)
		if (i < n) p[i] = v[i];
}
template <int N> __device__ __forceinline__ void store_part(bf16 *p, int n, bool wide, float (&v)[N]) {
	uint32_t pair[N / 2];
#pragma unroll
	for (int i = 0; i < N; i += 2) {
		pair[i / 2] = pack_bf16(v[i], v[i + 1]);
		float2 f = unpack_bf16(pair[i / 2]);
		v[i] = f.x, v[i + 1] = f.y;
	}
	if (wide) {
		if constexpr (N == 4) *(uint2 *)p = make_uint2(pair[0], pair[1]);
		else {
#pragma unroll
			for (int i = 0; i < N; i += 8)
				*(uint4 *)(p + i) = make_uint4(pair[i / 2], pair[i / 2 + 1], pair[i / 2 + 2], pair[i / 2 + 3]);
		}
		return;
	}
#pragma unroll
	for (int i = 0; i < N; i++)
		if (i < n) p[i].bits = (uint16_t)(pair[i / 2] >> i % 2 * 16);
}

__device__ __forceinline__ float sigmoid(float u) { return 1.0f / (1.0f + expf(-u)); }

// The standard normal distribution's Φ(u), and its density.
__device__ __forceinline__ float normal(float u) { return 0.5f * erfcf(-0.70710678f * u); }
__device__ __forceinline__ float density(float u) { return 0.39894228f * expf(-0.5f * u * u); }

// min and max that keep a NaN.
__device__ __forceinline__ float at_least(float u, float low) { return u < low ? low : u; }
__device__ __forceinline__ float at_most(float u, float high) { return u > high ? high : u; }

template <int N> __device__ __forceinline__ void activate(float (&u)[N], int act) {
	switch (act) {
	case CTN_RELU:
#pragma unroll
		for (int i = 0; i < N; i++) u[i] = at_least(u[i], 0.0f);
		break;
	case CTN_RELU6:
#pragma unroll
		for (int i = 0; i < N; i++) u[i] = at_most(at_least(u[i], 0.0f), 6.0f);
		break;
	case CTN_HSWISH:
#pragma unroll
		for (int i = 0; i < N; i++) u[i] *= at_most(at_least(u[i] + 3.0f, 0.0f), 6.0f) * (1.0f / 6.0f);
		break;
	case CTN_HSIGMOID:
#pragma unroll
		for (int i = 0; i < N; i++) u[i] = at_most(at_least(u[i] + 3.0f, 0.0f), 6.0f) * (1.0f / 6.0f);
		break;
	case CTN_SWISH:
#pragma unroll
		for (int i = 0; i < N; i++) u[i] *= sigmoid(u[i]);
		break;
	case CTN_SIGMOID:
#pragma unroll
		for (int i = 0; i < N; i++) u[i] = sigmoid(u[i]);
		break;
	case CTN_GELU:
#pragma unroll
		for (int i = 0; i < N; i++) u[i] *= normal(u[i]);
	}
}

// Multiplies v by the activation's derivative at u; at a kink PyTorch's choice.
template <int N> __device__ __forceinline__ void times_slope(float (&v)[N], const float (&u)[N], int act) {
	switch (act) {
	case CTN_RELU:
#pragma unroll
		for (int i = 0; i < N; i++) v[i] = u[i] > 0.0f ? v[i] : v[i] * 0.0f;
		break;
	case CTN_RELU6:
#pragma unroll
		for (int i = 0; i < N; i++) v[i] *= u[i] > 0.0f && u[i] < 6.0f ? 1.0f : 0.0f;
		break;
	case CTN_HSWISH:
#pragma unroll
		for (int i = 0; i < N; i++) v[i] *= u[i] < -3.0f ? 0.0f : u[i] > 3.0f ? 1.0f : u[i] * (1.0f / 3.0f) + 0.5f;
		break;
	case CTN_HSIGMOID:
#pragma unroll
		for (int i = 0; i < N; i++) v[i] *= u[i] > -3.0f && u[i] < 3.0f ? 1.0f / 6.0f : 0.0f;
		break;
	case CTN_SWISH:
#pragma unroll
		for (int i = 0; i < N; i++) {
			float s = sigmoid(u[i]);
			v[i] *= s * (1.0f + u[i] * (1.0f - s));
		}
		break;
	case CTN_SIGMOID:
#pragma unroll
		for (int i = 0; i < N; i++) {
			float s = sigmoid(u[i]);
			v[i] *= s * (1.0f - s);
		}
		break;
	case CTN_GELU:
#pragma unroll
		for (int i = 0; i < N; i++) v[i] *= normal(u[i]) + u[i] * density(u[i]);
	}
}

// A number a channel; `otherwise` where there is none.
template <int N>
__device__ __forceinline__ void load_channels(const float *p, int c, int n, float otherwise, float (&v)[N]) {
	if (p) {
		load_part(p + c, n, n == N && ((uint64_t)(p + c) & 15) == 0, v);
		return;
	}
#pragma unroll
	for (int i = 0; i < N; i++) v[i] = otherwise;
}

template <int N> struct input_channels {
	float scale[N], shift[N];
	__device__ __forceinline__ input_channels(const ctn_input *in, int c, int n) {
		load_channels(in->scale, c, n, 1.0f, scale), load_channels(in->shift, c, n, 0.0f, shift);
	}
};

// The activations that take a few instructions. Kernels that are for them alone lose no registers to the others.
template <int N> __device__ __forceinline__ void activate_cheaply(float (&v)[N], int act) {
	if (act == CTN_RELU) activate(v, CTN_RELU);
	else if (act == CTN_HSWISH) activate(v, CTN_HSWISH);
	else if (act == CTN_RELU6) activate(v, CTN_RELU6);
	else if (act == CTN_HSIGMOID) activate(v, CTN_HSIGMOID);
}

// Turns z in v into gate * act(scale*z + shift). What does not exist becomes zero, not the activation of zero. CHEAP:
// with an activation of activate_cheaply.
template <bool CHEAP = false, int N>
__device__ __forceinline__ void input_value(const ctn_input *in, const input_channels<N> &k, int pixel, int c, int n,
                                            float (&v)[N]) {
	if (in->scale) {
#pragma unroll
		for (int i = 0; i < N; i++) v[i] = v[i] * k.scale[i] + k.shift[i];
	}
	if (CHEAP) activate_cheaply(v, in->act);
	else activate(v, in->act);
	if (in->gate) {
		float gate[N];
		load_channels(in->gate + (int64_t)(pixel / (int)in->image) * in->gate_ld, c, n, 0.0f, gate);
#pragma unroll
		for (int i = 0; i < N; i++) v[i] *= gate[i];
	} else if ((in->act == CTN_HSIGMOID || in->act == CTN_SIGMOID) && n < N) {
#pragma unroll
		for (int i = 0; i < N; i++) v[i] = i < n ? v[i] : 0.0f;
	}
}
template <class T, int N>
__device__ __forceinline__ void input_part(const ctn_input *in, const input_channels<N> &k, int pixel, int c, int n,
                                           bool wide, float (&v)[N]) {
	load_part((const T *)in->z + pixel * in->ld + c, n, wide, v);
	input_value(in, k, pixel, c, n, v);
}

template <int N> struct gradient_channels {
	float p[N], q[N], r[N];
	__device__ __forceinline__ gradient_channels(const ctn_gradient *in, int c, int n) {
		load_channels(in->p, c, n, 1.0f, p), load_channels(in->q, c, n, 0.0f, q), load_channels(in->r, c, n, 0.0f, r);
	}
};

// p*g + q*z + r, or g alone.
template <int N>
__device__ __forceinline__ void gradient_value(const gradient_channels<N> &k, const float (&z)[N], float (&g)[N]) {
#pragma unroll
	for (int i = 0; i < N; i++) g[i] = k.p[i] * g[i] + (k.q[i] * z[i] + k.r[i]);
}
template <class T, int N>
__device__ __forceinline__ void gradient_part(const ctn_gradient *in, const gradient_channels<N> &k, int pixel, int c,
                                              int n, bool wide, float (&v)[N]) {
	load_part((const T *)in->g + pixel * in->g_ld + c, n, wide, v);
	if (!in->p) return;
	float z[N];
	load_part((const T *)in->z + pixel * in->z_ld + c, n, wide, z);
	gradient_value(k, z, v);
}

// Whether a thread's N channels of all pixels lie on multiples of 16 bytes in everything that these read or write.
template <class T> __device__ __forceinline__ bool input_whole(const ctn_input *in, int c, int n, int lanes) {
	return whole<T>(in->z, in->ld, c, n, lanes);
}
template <class T> __device__ __forceinline__ bool gradient_whole(const ctn_gradient *in, int c, int n, int lanes) {
	return whole<T>(in->g, in->g_ld, c, n, lanes) && (!in->p || whole<T>(in->z, in->z_ld, c, n, lanes));
}
template <class T> __device__ __forceinline__ bool sink_whole(const ctn_sink *s, int c, int n, int lanes) {
	return whole<T>(s->d, s->ld, c, n, lanes) && (!s->last || whole<T>(s->of.z, s->of.ld, c, n, lanes));
}

// ---- sums for batch norm --------------------------------------------------------

// Of the pixels that a thread has stored: a value near the mean, the sum of differences from it and that of their
// squares.
template <int N> struct forward_sums {
	static constexpr int ROWS = 3;
	float row[ROWS][N];
	int count;
	__device__ __forceinline__ forward_sums() : count(0) {
#pragma unroll
		for (int i = 0; i < N; i++) row[0][i] = row[1][i] = row[2][i] = 0.0f;
	}
	__device__ __forceinline__ void add(const float (&v)[N]) {
		if (!count++) {
#pragma unroll
			for (int i = 0; i < N; i++) row[0][i] = v[i];
			return;
		}
#pragma unroll
		for (int i = 0; i < N; i++) {
			float x = v[i] - row[0][i];
			row[1][i] += x, row[2][i] += x * x;
		}
	}
};

// Of the gradients that a thread has stored: their sum, and that of their products with zhat.
template <int N> struct backward_sums {
	static constexpr int ROWS = 2, count = 1; // pixels, or none: what was not added to is zero
	float row[ROWS][N];
	__device__ __forceinline__ backward_sums() {
#pragma unroll
		for (int i = 0; i < N; i++) row[0][i] = row[1][i] = 0.0f;
	}
};

// Adds the sums of `more` pixels to those of `count`.
__device__ __forceinline__ void merge(float (&to)[3], int count, const float (&from)[3], int more) {
	if (!more) return;
	if (!count) {
		for (int i = 0; i < 3; i++) to[i] = from[i];
		return;
	}
	float x = from[0] - to[0];
	to[2] += from[2] + 2.0f * x * from[1] + (float)more * x * x;
	to[1] += from[1] + (float)more * x;
}
__device__ __forceinline__ void merge(float (&to)[2], int, const float (&from)[2], int more) {
	if (!more) return;
	to[0] += from[0], to[1] += from[1];
}

// What a thread holds of one channel's sums over all that a block has stored so far.
template <class Sums> struct block_sums {
	float row[Sums::ROWS] = {};
	int count = 0;
};

// Adds the sums of a block's threads, strip after strip. A thread comes with those of channels group*N.. of strip
// `strip`; one with a strip >= strips only comes along. It leaves with those of channel threadIdx.x, if that is below
// groups*N <= blockDim.x. shared has room for sums_floats floats and may be what threads have used: there is a barrier
// before it is written and after it was read.
template <class Sums, int N> constexpr int sums_floats(int groups, int strips) {
	return strips * groups * (Sums::ROWS * N + 1);
}
template <class Sums, int N>
__device__ __forceinline__ void gather_sums(const Sums &sums, int group, int groups, int strip, int strips,
                                            float *shared, block_sums<Sums> &all) {
	constexpr int ROWS = Sums::ROWS;
	const int width = groups * N, j = threadIdx.x;
	int *count = (int *)(shared + strips * ROWS * width);
	__syncthreads();
	if (strip < strips) {
#pragma unroll
		for (int r = 0; r < ROWS; r++)
#pragma unroll
			for (int i = 0; i < N; i++) shared[(strip * ROWS + r) * width + group * N + i] = sums.row[r][i];
		count[strip * groups + group] = sums.count;
	}
	__syncthreads();
	for (int s = 0; j < width && s < strips; s++) {
		float one[ROWS];
#pragma unroll
		for (int r = 0; r < ROWS; r++) one[r] = shared[(s * ROWS + r) * width + j];
		int more = count[s * groups + j / N];
		merge(all.row, all.count, one, more);
		all.count += more;
	}
	__syncthreads();
}

// Writes a channel's sums to a part's rows, `ld` floats apart.
template <class Sums>
__device__ __forceinline__ void write_sums(const block_sums<Sums> &all, float *rows, int64_t ld, int c) {
#pragma unroll
	for (int r = 0; r < Sums::ROWS; r++) rows[r * ld + c] = all.row[r];
}

// Leaves a part's sums in channels c0.. of rows that are `ld` floats apart, and makes of all parts what `norm` says
// (norm.cuh). The block is number `chunk` of those that share the channels. All threads call it.
template <class Sums>
__device__ __forceinline__ void end_sums(const block_sums<Sums> &all, float *stats, int64_t ld, const ctn_norm *norm,
                                         int part, int chunk, int c0, int channels, float *shared) {
	if ((int)threadIdx.x < channels)
		write_sums(all, stats + (int64_t)part * Sums::ROWS * ld, ld, c0 + threadIdx.x);
	finish_norm<Sums::ROWS>(norm, part, chunk, c0, channels, shared);
}

// Both, for a block that leaves a part's sums once, in channels c0 + group*N.., of which the first `channels` exist.
template <class Sums, int N>
__device__ __forceinline__ void leave_sums(const Sums &sums, int group, int groups, int strip, int strips, int c0,
                                           int channels, float *stats, int64_t ld, const ctn_norm *norm, int part,
                                           int chunk, float *shared) {
	block_sums<Sums> all;
	gather_sums<Sums, N>(sums, group, groups, strip, strips, shared, all);
	end_sums(all, stats, ld, norm, part, chunk, c0, min(channels, groups * N), shared);
}

// ---- sinks ----------------------------------------------------------------------

template <int N> struct sink_channels {
	float scale[N], shift[N], mean[N], invstd[N];
	__device__ __forceinline__ sink_channels(const ctn_sink *s, int c, int n) {
		load_channels(s->last ? s->of.scale : 0, c, n, 1.0f, scale),
		        load_channels(s->last ? s->of.shift : 0, c, n, 0.0f, shift);
		load_channels(s->stats ? s->mean : 0, c, n, 0.0f, mean),
		        load_channels(s->stats ? s->invstd : 0, c, n, 0.0f, invstd);
	}
	// From shared memory, where keep() has put them: 4 rows of `pitch` floats.
	__device__ __forceinline__ sink_channels(const float *kept, int pitch, int c) {
		load_part(kept + c, N, true, scale), load_part(kept + pitch + c, N, true, shift);
		load_part(kept + 2 * pitch + c, N, true, mean), load_part(kept + 3 * pitch + c, N, true, invstd);
	}
	__device__ __forceinline__ void keep(float *to, int pitch, int c) {
		store_part(to + c, N, true, scale), store_part(to + pitch + c, N, true, shift);
		store_part(to + 2 * pitch + c, N, true, mean), store_part(to + 3 * pitch + c, N, true, invstd);
	}
};

// What the sink needs of a pixel, as stored: LANES<T> channels, or four.
struct sink_raw {
	uint4 old, z;
};
template <class T> struct sink_quad {
	quad<T> old, z;
};
template <class T>
__device__ __forceinline__ sink_raw load_sink(const ctn_sink *s, int pixel, int c, int n, bool wide) {
	sink_raw raw = {};
	if (s->accumulate) raw.old = load_raw((const T *)s->d + pixel * s->ld + c, n, wide);
	if (s->last) raw.z = load_raw((const T *)s->of.z + pixel * s->of.ld + c, n, wide);
	return raw;
}
template <class T>
__device__ __forceinline__ sink_quad<T> load_sink_quad(const ctn_sink *s, int pixel, int c, int n, bool wide) {
	sink_quad<T> raw = {};
	if (s->accumulate) raw.old = load_quad((const T *)s->d + pixel * s->ld + c, n, wide);
	if (s->last) raw.z = load_quad((const T *)s->of.z + pixel * s->of.ld + c, n, wide);
	return raw;
}

// Stores v, the gradient in a pixel, and adds what was stored to sums when this is the last consumer of a normalised
// tensor.
template <class T, int N, class Raw>
__device__ __forceinline__ void sink_part(const ctn_sink *s, const sink_channels<N> &k, const Raw &raw, int pixel,
                                          int c, int n, bool wide, float (&v)[N], backward_sums<N> &sums) {
	T *d = (T *)s->d + pixel * s->ld + c;
	if (s->accumulate) {
		float old[N];
		unpack(raw.old, old);
#pragma unroll
		for (int i = 0; i < N; i++) v[i] += old[i];
	}
	if (!s->last) {
		store_part(d, n, wide, v);
		return;
	}
	float z[N], u[N];
	unpack(raw.z, z);
#pragma unroll
	for (int i = 0; i < N; i++) u[i] = s->of.scale ? z[i] * k.scale[i] + k.shift[i] : z[i];
	times_slope(v, u, s->of.act);
	store_part(d, n, wide, v);
	if (!s->stats) return;
#pragma unroll
	for (int i = 0; i < N; i++) sums.row[0][i] += v[i], sums.row[1][i] += v[i] * ((z[i] - k.mean[i]) * k.invstd[i]);
}
template <class T, int N>
__device__ __forceinline__ void sink_part(const ctn_sink *s, const sink_channels<N> &k, int pixel, int c, int n,
                                          bool wide, float (&v)[N], backward_sums<N> &sums) {
	sink_part<T>(s, k, load_sink<T>(s, pixel, c, n, wide), pixel, c, n, wide, v, sums);
}

#endif
