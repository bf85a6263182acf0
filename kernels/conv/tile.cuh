// The products of a tile, by CTN_CONV_GPU_BLOCK threads: (ROWS x STEP) times (STEP x COLS) from shared memory, added up
// in registers.
#ifndef CTN_CONV_TILE_CUH
#define CTN_CONV_TILE_CUH
#include "../tensor/load.cuh"
#include "conv_gpu.h"
#include "weights.cuh"

constexpr int BLOCK = CTN_CONV_GPU_BLOCK;
template <class T> constexpr int STEP = sizeof(T) == 4 ? CTN_CONV_GPU_STEP_F32 : CTN_CONV_GPU_STEP_BF16;

template <class T, int ROWS, int COLS> struct products;

// float32: 16 x 16 threads, each with 4 rows and 4 columns of every 64 x 64.
template <int ROWS, int COLS> struct products<float, ROWS, COLS> {
	static constexpr int R = ROWS / 16, C = COLS / 16, TOGETHER = 4;
	float acc[R][C];

	__device__ __forceinline__ void clear() {
#pragma unroll
		for (int r = 0; r < R; r++)
#pragma unroll
			for (int c = 0; c < C; c++) acc[r][c] = 0.0f;
	}

	// left[k][row] and right[k][column], rows `pitch` floats apart.
	__device__ __forceinline__ void add(const float *left, int left_pitch, const float *right, int right_pitch) {
		const int y = threadIdx.x / 16 * 4, x = threadIdx.x % 16 * 4;
#pragma unroll 2
		for (int k = 0; k < STEP<float>; k++) {
			float a[R], b[C];
#pragma unroll
			for (int r = 0; r < R; r += 4) {
				float4 f = *(const float4 *)(left + k * left_pitch + r / 4 * 64 + y);
				a[r] = f.x, a[r + 1] = f.y, a[r + 2] = f.z, a[r + 3] = f.w;
			}
#pragma unroll
			for (int c = 0; c < C; c += 4) {
				float4 f = *(const float4 *)(right + k * right_pitch + c / 4 * 64 + x);
				b[c] = f.x, b[c + 1] = f.y, b[c + 2] = f.z, b[c + 3] = f.w;
			}
#pragma unroll
			for (int r = 0; r < R; r++)
#pragma unroll
				for (int c = 0; c < C; c++) acc[r][c] += a[r] * b[c];
		}
	}

	// Calls f(row, column, four neighbours).
	template <class F> __device__ __forceinline__ void each(F f) const {
		const int y = threadIdx.x / 16 * 4, x = threadIdx.x % 16 * 4;
#pragma unroll
		for (int r = 0; r < R; r++)
#pragma unroll
			for (int c = 0; c < C; c += 4) {
				const float v[4] = {acc[r][c], acc[r][c + 1], acc[r][c + 2], acc[r][c + 3]};
				f(r / 4 * 64 + y + r % 4, c / 4 * 64 + x, v);
			}
	}
};

// The element at which a vector of eight lies in a row of WIDTH, a multiple of 64, without gaps between rows: eight
// rows' vectors of one number, or of eight in a row, lie in different banks.
template <int WIDTH> __device__ __forceinline__ int swizzled(int row, int vector) {
	return row * WIDTH + (vector ^ row % 8) * 8;
}

// bfloat16: tensor cores, 4 x 2 warps.
template <int ROWS, int COLS> struct products<bf16, ROWS, COLS> {
	static constexpr int R = ROWS / 64, C = COLS / 16, TOGETHER = 2;
	float acc[R][C][4];

	__device__ __forceinline__ void clear() {
#pragma unroll
		for (int r = 0; r < R; r++)
#pragma unroll
			for (int c = 0; c < C; c++)
#pragma unroll
				for (int i = 0; i < 4; i++) acc[r][c][i] = 0.0f;
	}
	static __device__ __forceinline__ int row0() { return (int)threadIdx.x / 64 * (ROWS / 4); }
	static __device__ __forceinline__ int column0() { return (int)threadIdx.x / 32 % 2 * (COLS / 2); }

	// left[row][k] and right[column][k].
	__device__ __forceinline__ void add_along(const bf16 *left, int left_pitch, const bf16 *right, int right_pitch) {
		const int lane = threadIdx.x % 32;
		left += (row0() + lane % 16) * left_pitch + lane / 16 * 8;
		right += (column0() + lane / 16 * 8 + lane % 8) * right_pitch + lane / 8 % 2 * 8;
#pragma unroll
		for (int k = 0; k < STEP<bf16>; k += 16) {
			uint32_t a[R][4];
#pragma unroll
			for (int r = 0; r < R; r++) ldmatrix_x4(a[r], left + 16 * r * left_pitch + k);
#pragma unroll
			for (int c = 0; c < C; c += 2) {
				uint32_t b[4];
				ldmatrix_x4(b, right + 8 * c * right_pitch + k);
				multiply(a, b, c);
			}
		}
	}

	// left[k][row] and right[k][column].
	__device__ __forceinline__ void add(const bf16 *left, int left_pitch, const bf16 *right, int right_pitch) {
		const int lane = threadIdx.x % 32, matrix = lane / 8;
		left += (lane % 8 + matrix / 2 * 8) * left_pitch + row0() + matrix % 2 * 8;
		right += (lane % 8 + matrix % 2 * 8) * right_pitch + column0() + matrix / 2 * 8;
#pragma unroll
		for (int k = 0; k < STEP<bf16>; k += 16) {
			uint32_t a[R][4];
#pragma unroll
			for (int r = 0; r < R; r++) ldmatrix_x4_trans(a[r], left + k * left_pitch + 16 * r);
#pragma unroll
			for (int c = 0; c < C; c += 2) {
				uint32_t b[4];
				ldmatrix_x4_trans(b, right + k * right_pitch + 8 * c);
				multiply(a, b, c);
			}
		}
	}

	// The same two of steps of K, vectors of eight at swizzled(). Numbers of vectors that have no bit in common with
	// the first one's are added to it by an exclusive or of their elements.
	template <int K> __device__ __forceinline__ void add_along_swizzled(const bf16 *left, const bf16 *right) {
		const int lane = threadIdx.x % 32, at = swizzled<K>(row0() + lane % 16, lane / 16),
		          to = swizzled<K>(column0() + lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
		for (int k = 0; k < K; k += 16) {
			uint32_t a[R][4];
#pragma unroll
			for (int r = 0; r < R; r++) ldmatrix_x4(a[r], left + (at ^ k) + 16 * r * K);
#pragma unroll
			for (int c = 0; c < C; c += 2) {
				uint32_t b[4];
				ldmatrix_x4(b, right + (to ^ k) + 8 * c * K);
				multiply(a, b, c);
			}
		}
	}
	template <int K> __device__ __forceinline__ void add_swizzled(const bf16 *left, const bf16 *right) {
		const int lane = threadIdx.x % 32, matrix = lane / 8,
		          at = swizzled<ROWS>(lane % 8 + matrix / 2 * 8, row0() / 8 + matrix % 2),
		          to = swizzled<COLS>(lane % 8 + matrix % 2 * 8, column0() / 8 + matrix / 2);
#pragma unroll
		for (int k = 0; k < K; k += 16) {
			uint32_t a[R][4];
#pragma unroll
			for (int r = 0; r < R; r++) ldmatrix_x4_trans(a[r], left + (at ^ 16 * r) + k * ROWS);
#pragma unroll
			for (int c = 0; c < C; c += 2) {
				uint32_t b[4];
				ldmatrix_x4_trans(b, right + (to ^ 8 * c) + k * COLS);
				multiply(a, b, c);
			}
		}
	}

	// Calls f(row, column, two neighbours).
	template <class F> __device__ __forceinline__ void each(F f) const {
		const int lane = threadIdx.x % 32;
#pragma unroll
		for (int r = 0; r < R; r++)
#pragma unroll
			for (int c = 0; c < C; c++)
#pragma unroll
				for (int i = 0; i < 2; i++) {
					const float v[2] = {acc[r][c][2 * i], acc[r][c][2 * i + 1]};
					f(row0() + 16 * r + lane / 4 + 8 * i, column0() + 8 * c + lane % 4 * 2, v);
				}
	}

  private:
	__device__ __forceinline__ void multiply(const uint32_t (&a)[R][4], const uint32_t (&b)[4], int c) {
		const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
#pragma unroll
		for (int r = 0; r < R; r++) {
			mma_m16n8k16_bf16(acc[r][c], a[r], first);
			mma_m16n8k16_bf16(acc[r][c + 1], a[r], second);
		}
	}
};

// Stores 16 bytes of values where the tensor cores, or the float products, read them.
__device__ __forceinline__ void store_shared(bf16 *to, const float (&v)[8]) {
	*(uint4 *)to =
	        make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
}
__device__ __forceinline__ void store_shared(float *to, const float (&v)[4]) {
	*(float4 *)to = make_float4(v[0], v[1], v[2], v[3]);
}

// A group of channels of a tap, of those that lie side by side in a product: each tap's begin at a multiple of LANES.
template <class T> struct tap_channels {
	int ky, kx, c, n; // n: how many exist; 0 where there is no such tap
	__device__ __forceinline__ tap_channels(const ctn_conv_geometry &a, int depth, int vector) {
		const int across = (depth + LANES<T> - 1) / LANES<T>, tap = vector / across;
		c = (vector - tap * across) * LANES<T>;
		ky = tap / a.kw, kx = tap - ky * a.kw;
		n = ky < a.kh ? min(LANES<T>, depth - c) : 0;
	}
};

// Stores a tile of a weight's gradient, or of a split of it.
template <class T, int ROWS, int COLS>
__device__ __forceinline__ void store_weight(const ctn_conv_weight_gpu_args &args, const products<T, ROWS, COLS> &out) {
	constexpr int L = LANES<T>;
	const weight_block block(args.blocks);
	const ctn_conv_weight_gpu &g = args.all[block.job];
	const ctn_conv_geometry &a = g.at;
	const int row_tile = block.tile / g.tiles, column0 = block.tile % g.tiles * COLS;
	float *to = g.splits > 1 ? g.partial + block.split * g.len : g.dweight;
	const int ld = g.splits > 1 ? g.out : a.weight_ld, tap_ld = g.splits > 1 ? a.depth * g.out : a.tap_ld;
	const bool accumulate = g.splits == 1 && g.accumulate;
	out.each([&](int row, int column, const auto &v) {
		const tap_channels<T> tap(a, a.depth, row_tile * (ROWS / L) + row / L);
		if (row % L >= tap.n) return;
		float *line = to + (int64_t)(tap.ky * a.kw + tap.kx) * tap_ld + (int64_t)(tap.c + row % L) * ld +
		              block.group * a.cols + column0 + column;
#pragma unroll
		for (int i = 0; i < (int)(sizeof v / sizeof(float)); i++)
			if (column0 + column + i < a.cols) line[i] = accumulate ? line[i] + v[i] : v[i];
	});
}

#endif
