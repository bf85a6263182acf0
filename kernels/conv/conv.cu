// Convolutions and the gradient in their input as products of matrices whose left side is never written out: a row is a
// pixel, its columns are the channels of the taps. A tile's left side is read through its prologue (tensor/load.cuh) on
// the way into shared memory, one step ahead of the products; the next tile's first step is on its way while this tile
// is stored. The right side is the weight, which pack.cu puts in the order of the steps.
//
//   cu_conv, cu_conv_input            float32, tiles of 128 x 64
//   cu_conv_bf16_N, cu_conv_input_bf16_N   tensors of bfloat16, tensor cores, tiles of 128 x N
//   cu_conv_1x1_N, cu_conv_input_1x1_N     the same of one tap without strides, activations that are cheap
//
// The rows of the gradient in the input are ordered by their phase, that is their place modulo the strides, so that
// those of a tile have the same taps; the steps of other taps are left out.
#include "tile.cuh"
#include <type_traits>

namespace {

constexpr int ROWS = CTN_CONV_GPU_ROWS;

// How many of `size` places have a phase.
__device__ __forceinline__ int phase_size(int size, int phase, int stride) {
	return (size - phase + stride - 1) / stride;
}

// Where a row lies: the first pixel of its image in the tensor that is read, and there the place of tap (0, 0), before
// the division by the strides where the product is transposed; and the pixel that it writes.
struct place {
	int image, y, x, written, phase;
};

template <bool TRANSPOSED> __device__ __forceinline__ place find(const ctn_conv_gpu_args &g, int row) {
	const ctn_conv_geometry &a = g.at;
	if (row >= g.rows) return {0, -(1 << 28), 0, -1, 0};
	if (!TRANSPOSED) {
		int line = row / a.wo, image = line / a.ho;
		return {image * a.h * a.w, (line - image * a.ho) * a.stride_h - a.pad_h,
		        (row - line * a.wo) * a.stride_w - a.pad_w, row, 0};
	}
	int phase = 0, py = 0, px = 0, height = a.h, width = a.w;
	if (a.stride_h * a.stride_w > 1)
		for (;; phase++) {
			py = phase / a.stride_w, px = phase - py * a.stride_w;
			height = phase_size(a.h, py, a.stride_h), width = phase_size(a.w, px, a.stride_w);
			if (row < a.n * height * width) break;
			row -= a.n * height * width;
		}
	int line = row / width, image = line / height, y = (line - image * height) * a.stride_h + py,
	    x = (row - line * width) * a.stride_w + px;
	return {image * a.ho * a.wo, y + a.pad_h, x + a.pad_w, (image * a.h + y) * a.w + x, phase};
}

// The pixel that a row reads for a tap, -1 where there is none.
template <bool TRANSPOSED>
__device__ __forceinline__ int read_pixel(const ctn_conv_geometry &a, const place &p, int ky, int kx) {
	if (!TRANSPOSED) {
		int y = p.y + ky * a.dilation, x = p.x + kx * a.dilation;
		return (unsigned)y < (unsigned)a.h && (unsigned)x < (unsigned)a.w ? p.image + y * a.w + x : -1;
	}
	int y = p.y - ky * a.dilation, x = p.x - kx * a.dilation;
	if (a.stride_h * a.stride_w > 1) {
		if (y < 0 || x < 0 || y % a.stride_h || x % a.stride_w) return -1;
		y /= a.stride_h, x /= a.stride_w;
	}
	return (unsigned)y < (unsigned)a.ho && (unsigned)x < (unsigned)a.wo ? p.image + y * a.wo + x : -1;
}

// The taps that rows [row, row + ROWS) may have, a bit each.
template <bool TRANSPOSED> __device__ __forceinline__ uint64_t taps_of(const ctn_conv_gpu_args &g, int row) {
	const ctn_conv_geometry &a = g.at;
	if (!TRANSPOSED || a.stride_h * a.stride_w == 1) return ~(uint64_t)0;
	int first = find<TRANSPOSED>(g, row).phase, last = find<TRANSPOSED>(g, min(row + ROWS, g.rows) - 1).phase;
	uint64_t taps = 0;
	for (int phase = first; phase <= last; phase++)
		for (int t = 0; t < a.kh * a.kw; t++) {
			int y = phase / a.stride_w + a.pad_h - t / a.kw * a.dilation,
			    x = phase % a.stride_w + a.pad_w - t % a.kw * a.dilation;
			if (y % a.stride_h == 0 && x % a.stride_w == 0) taps |= (uint64_t)1 << t;
		}
	return taps;
}

// A thread's part of a step's left side: VECTOR of a row's vectors, for MINE rows. POINT: a row reads its own pixel.
template <class T, bool TRANSPOSED, bool POINT> struct loader {
	static constexpr int L = LANES<T>, VECTORS = STEP<T> / L, MINE = ROWS * VECTORS / BLOCK;
	const ctn_conv_gpu_args &g;
	const int c0; // the group's first channel
	const bool aligned;
	place at[POINT ? 1 : MINE]; // POINT: of the first row there is only where it is
	uint64_t taps;
	// of the step that is on its way
	int c = 0, n = 0, pixel[MINE];
	uint4 raw[MINE], raw_z[MINE];

	__device__ __forceinline__ loader(const ctn_conv_gpu_args &g, int group)
	    : g(g), c0(group * g.at.depth),
	      aligned(TRANSPOSED ? gradient_whole<T>(&g.grad, c0, L, L) : input_whole<T>(&g.in, c0, L, L)) {}

	static __device__ __forceinline__ int row(int i) { return (int)threadIdx.x / VECTORS + i * (BLOCK / VECTORS); }

	__device__ __forceinline__ void begin(int row0) {
		if constexpr (POINT) {
			at[0].written = row0 + row(0);
		} else {
#pragma unroll
			for (int i = 0; i < MINE; i++) at[i] = find<TRANSPOSED>(g, row0 + row(i));
			taps = taps_of<TRANSPOSED>(g, row0);
		}
	}

	// The first step from `step` on with taps that rows of the tile have, or `steps`.
	__device__ __forceinline__ int next(int step, int steps) const {
		if (POINT || !TRANSPOSED || g.at.stride_h * g.at.stride_w == 1) return step;
		const int across = (g.at.depth + L - 1) / L;
		for (; step < steps; step++) {
			int first = step * VECTORS / across, last = (step * VECTORS + VECTORS - 1) / across;
			for (int t = first; t <= last && t < g.at.kh * g.at.kw; t++)
				if (taps >> t & 1) return step;
		}
		return steps;
	}

	__device__ __forceinline__ void load(int step) {
		const int vector = step * VECTORS + (int)threadIdx.x % VECTORS;
		int ky = 0, kx = 0;
		if constexpr (POINT) {
			c = vector * L, n = min(L, g.at.depth - c);
		} else {
			const tap_channels<T> k(g.at, g.at.depth, vector);
			c = c0 + k.c, n = k.n, ky = k.ky, kx = k.kx;
		}
		const bool wide = aligned && n == L;
#pragma unroll
		for (int i = 0; i < MINE; i++) {
			if constexpr (POINT) {
				pixel[i] = at[0].written + row(i) - row(0);
				if (n <= 0 || pixel[i] >= g.rows) pixel[i] = -1;
			} else {
				pixel[i] = n > 0 ? read_pixel<TRANSPOSED>(g.at, at[i], ky, kx) : -1;
			}
			if (pixel[i] < 0) continue;
			if (TRANSPOSED) {
				raw[i] = load_raw((const T *)g.grad.g + pixel[i] * g.grad.g_ld + c, n, wide);
				if (g.grad.p) raw_z[i] = load_raw((const T *)g.grad.z + pixel[i] * g.grad.z_ld + c, n, wide);
			} else {
				raw[i] = load_raw((const T *)g.in.z + pixel[i] * g.in.ld + c, n, wide);
			}
		}
	}

	// Puts what was loaded into shared memory as it is multiplied: bfloat16 as rows of steps, float32 as steps of rows.
	__device__ __forceinline__ void store(T *left, int pitch) const {
#pragma unroll
		for (int q = 0; q < L / 4; q++) { // four channels at a time: registers are scarce here
			const int at = c + 4 * q, some = min(4, n - 4 * q), k0 = (int)threadIdx.x % VECTORS * L + 4 * q;
			if (TRANSPOSED) {
				const gradient_channels<4> k(&g.grad, at, some);
#pragma unroll
				for (int i = 0; i < MINE; i++) {
					float v[4] = {}, z[4];
					if (pixel[i] >= 0) {
						unpack(quad_of<T>(raw[i], q), v);
						if (g.grad.p) {
							unpack(quad_of<T>(raw_z[i], q), z);
							gradient_value(k, z, v);
						}
					}
					put(left, pitch, row(i), k0, v);
				}
			} else {
				const input_channels<4> k(&g.in, at, some);
#pragma unroll
				for (int i = 0; i < MINE; i++) {
					float v[4] = {};
					if (pixel[i] >= 0) {
						unpack(quad_of<T>(raw[i], q), v);
						input_value<POINT>(&g.in, k, pixel[i], at, some, v);
					}
					put(left, pitch, row(i), k0, v);
				}
			}
		}
	}

  private:
	static __device__ __forceinline__ void put(bf16 *left, int pitch, int row, int k, const float (&v)[4]) {
		*(uint2 *)(left + row * pitch + k) = make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
	}
	static __device__ __forceinline__ void put(float *left, int pitch, int row, int k, const float (&v)[4]) {
#pragma unroll
		for (int j = 0; j < 4; j++) left[(k + j) * pitch + row] = v[j];
	}
};

// What a tile takes of shared memory: two steps of both sides; the results; the sums.
template <class T, int COLS> struct layout {
	static constexpr bool ALONG = sizeof(T) == 2; // the step's channels run fastest
	static constexpr int LEFT_PITCH = ALONG ? STEP<T> + 8 : ROWS + 4, LEFT = LEFT_PITCH * (ALONG ? ROWS : STEP<T>);
	static constexpr int RIGHT_PITCH = ALONG ? STEP<T> + 8 : COLS + 4, RIGHT = RIGHT_PITCH * (ALONG ? COLS : STEP<T>);
	static constexpr int PITCH = COLS + 4; // of the results
};

// Starts the copy of a step's right side.
template <class T, int COLS> __device__ __forceinline__ void copy_weight(const T *from, T *right) {
	using l = layout<T, COLS>;
	constexpr int L = LANES<T>, LINE = l::ALONG ? STEP<T> : COLS; // numbers side by side
	for (int i = threadIdx.x; i < COLS * STEP<T> / L; i += BLOCK)
		cp_async16(right + i * L / LINE * l::RIGHT_PITCH + i * L % LINE, from + i * L);
	cp_async_commit();
}

template <class T, int COLS, bool TRANSPOSED, bool POINT = false>
__device__ __forceinline__ void convolve(const ctn_conv_gpu_args &g) {
	using l = layout<T, COLS>;
	using sums_type = typename std::conditional<TRANSPOSED, backward_sums<4>, forward_sums<4>>::type;
	constexpr int L = 4, GROUPS = COLS / L, STRIPS = BLOCK / GROUPS, MINE = ROWS / STRIPS,
	              BATCH = MINE < 4     ? MINE
	                      : COLS < 128 ? 4
	                                   : 2;
	DYNAMIC_SHARED(float, work);
	T *left = (T *)work, *right = left + 2 * l::LEFT;
	const int across = (g.at.cols + COLS - 1) / COLS, column_tile = blockIdx.x % across, part = blockIdx.x / across,
	          group = blockIdx.y;
	const int vectors = (g.at.depth + LANES<T> - 1) / LANES<T> * g.at.kh * g.at.kw,
	          steps = (vectors * LANES<T> + STEP<T> - 1) / STEP<T>;
	const T *packed = (const T *)g.packed + (int64_t)(group * across + column_tile) * steps * (COLS * STEP<T>);
	float *stats = TRANSPOSED ? g.sink.stats : g.stats;
	block_sums<sums_type> all;

	loader<T, TRANSPOSED, POINT> in(g, group);
	int row0 = part * g.tiles * ROWS, end = min(g.rows, row0 + g.tiles * ROWS);
	in.begin(row0);
	int step = in.next(0, steps);
	if (step < steps) in.load(step);
	for (; row0 < end; row0 += ROWS) {
		products<T, ROWS, COLS> out;
		out.clear();
		if (step < steps) {
			copy_weight<T, COLS>(packed + (int64_t)step * (COLS * STEP<T>), right);
			in.store(left, l::LEFT_PITCH);
			cp_async_wait<0>();
		}
		__syncthreads();
		for (int now = 0; step < steps; now ^= 1) {
			const int after = in.next(step + 1, steps);
			if (after < steps) {
				in.load(after);
				copy_weight<T, COLS>(packed + (int64_t)after * (COLS * STEP<T>), right + (now ^ 1) * l::RIGHT);
			}
			if constexpr (l::ALONG)
				out.add_along(left + now * l::LEFT, l::LEFT_PITCH, right + now * l::RIGHT, l::RIGHT_PITCH);
			else out.add(left + now * l::LEFT, l::LEFT_PITCH, right + now * l::RIGHT, l::RIGHT_PITCH);
			if (after < steps) {
				in.store(left + (now ^ 1) * l::LEFT, l::LEFT_PITCH);
				cp_async_wait<0>();
			}
			__syncthreads();
			step = after;
		}
		out.each([&](int row, int column, const auto &v) {
			float *to = work + row * l::PITCH + column;
			if constexpr (sizeof v == 16) *(float4 *)to = make_float4(v[0], v[1], v[2], v[3]);
			else *(float2 *)to = make_float2(v[0], v[1]);
		});
		__syncthreads();
		if (row0 + ROWS < end) {
			in.begin(row0 + ROWS);
			step = in.next(0, steps);
			if (step < steps) in.load(step);
		}
		// A thread's place in the stored tile: four channels of every STRIPS'th row.
		const int mine = threadIdx.x % GROUPS, strip = threadIdx.x / GROUPS,
		          j = column_tile * COLS + mine * L, n = min(L, g.at.cols - j);
		const int c = group * g.at.cols + j;
		const bool wide = TRANSPOSED ? sink_whole<T>(&g.sink, c, n, L) : whole<T>(g.z, g.ld, c, n, L);
		sums_type sums;
		if (n > 0) {
			if constexpr (TRANSPOSED) {
				const sink_channels<L> k(&g.sink, c, n);
#pragma unroll 1
				for (int b = 0; b < MINE; b += BATCH) {
					sink_quad<T> raw[BATCH];
					int pixel[BATCH];
#pragma unroll
					for (int i = 0; i < BATCH; i++) {
						const int row = row0 + strip + (b + i) * STRIPS;
						pixel[i] = row >= end                           ? -1
						           : POINT || g.at.stride_h * g.at.stride_w == 1 ? row
						                                                : find<TRANSPOSED>(g, row).written;
						if (pixel[i] >= 0) raw[i] = load_sink_quad<T>(&g.sink, pixel[i], c, n, wide);
					}
#pragma unroll
					for (int i = 0; i < BATCH; i++) {
						if (pixel[i] < 0) continue;
						float v[L];
						load_part(work + (strip + (b + i) * STRIPS) * l::PITCH + mine * L, L, true, v);
						sink_part<T>(&g.sink, k, raw[i], pixel[i], c, n, wide, v, sums);
					}
				}
			} else {
				float bias[L];
				load_channels(g.bias, c, n, 0.0f, bias);
#pragma unroll
				for (int i = 0; i < MINE; i++) {
					const int row = row0 + strip + i * STRIPS;
					if (row >= end) continue;
					float v[L];
					load_part(work + (strip + i * STRIPS) * l::PITCH + mine * L, L, true, v);
#pragma unroll
					for (int q = 0; q < L; q++) v[q] += bias[q];
					store_part((T *)g.z + row * g.ld + c, n, wide, v);
					if (stats) sums.add(v);
				}
			}
		}
		if (stats) gather_sums<sums_type, L>(sums, mine, GROUPS, strip, STRIPS, work, all);
		else __syncthreads();
	}
	if (!stats) return;
	end_sums(all, stats, TRANSPOSED ? g.sink.stats_ld : g.stats_ld, TRANSPOSED ? g.sink.norm : g.norm, part,
	         group * across + column_tile, group * g.at.cols + column_tile * COLS,
	         min(COLS, g.at.cols - column_tile * COLS), work);
}

} // namespace

// Grid: parts x tiles of columns, which run faster, so that those who read the same rows run together; groups.
CTN_ENTRY(cu_conv, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<float, CTN_CONV_GPU_COLS_F32, false>(g); }
CTN_ENTRY(cu_conv_bf16_32, const ctn_conv_gpu_args g, BLOCK, 3) { convolve<bf16, 32, false>(g); }
CTN_ENTRY(cu_conv_bf16_64, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<bf16, 64, false>(g); }
CTN_ENTRY(cu_conv_bf16_128, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<bf16, 128, false>(g); }
CTN_ENTRY(cu_conv_1x1_64, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<bf16, 64, false, true>(g); }
CTN_ENTRY(cu_conv_1x1_128, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<bf16, 128, false, true>(g); }
CTN_ENTRY(cu_conv_input_1x1_64, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<bf16, 64, true, true>(g); }
CTN_ENTRY(cu_conv_input_1x1_128, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<bf16, 128, true, true>(g); }
CTN_ENTRY(cu_conv_input, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<float, CTN_CONV_GPU_COLS_F32, true>(g); }
CTN_ENTRY(cu_conv_input_bf16_32, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<bf16, 32, true>(g); }
CTN_ENTRY(cu_conv_input_bf16_64, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<bf16, 64, true>(g); }
CTN_ENTRY(cu_conv_input_bf16_128, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<bf16, 128, true>(g); }
