// Matrix products. A block computes a 64 x 64 tile of c, stepping along the summed side through shared memory:
//
//   cu_gemm_f32, cu_gemm_tn_f32    16 x 16 threads, 4 x 4 results each, float32
//   cu_gemm_bf16, cu_gemm_tn_bf16  four warps of 32 x 32 results, tensor cores: factors in bfloat16, sums in float32
//
// A product over rows (tn) has a small c and many rows to sum, so the rows are split over blocks, and cu_gemm_tn_sum
// adds the splits in order.
#include "../exec/cuda.cuh"
#include "gemm.h"

namespace {

constexpr int TILE = CTN_GEMM_TILE, STEP = 16;

// Element (i, l) of the left factor and (l, j) of the right one, zero outside.
struct plain {
	const float *a, *b;
	int64_t m, n, k;
	bool trans_b;
	__device__ float left(int64_t i, int64_t l) const { return i < m && l < k ? a[i * k + l] : 0.0f; }
	__device__ float right(int64_t l, int64_t j) const {
		return l < k && j < n ? b[trans_b ? j * k + l : l * n + j] : 0.0f;
	}
};
struct transposed { // left is a', and both factors begin at row `first` of a and b
	const float *a, *b;
	int64_t first, last, n, k;
	__device__ float left(int64_t i, int64_t l) const {
		return first + l < last && i < k ? a[(first + l) * k + i] : 0.0f;
	}
	__device__ float right(int64_t l, int64_t j) const {
		return first + l < last && j < n ? b[(first + l) * n + j] : 0.0f;
	}
};

// Which of a TILE x STEP piece's elements a thread loads: neighbours in memory go to neighbouring threads. `along` says
// that the summed index is the one that runs fastest in memory.
__device__ __forceinline__ void element(int e, bool along, int &outer, int &inner) {
	outer = along ? e / STEP : e % TILE;
	inner = along ? e % STEP : e / TILE;
}

template <class Factors>
__device__ void product_f32(const Factors &f, int64_t sum, bool left_along, bool right_along, int64_t i0, int64_t j0,
                            float (&acc)[4][4]) {
	STATIC_SHARED(float[STEP][TILE + 4], left);
	STATIC_SHARED(float[STEP][TILE + 4], right);
	const int x = threadIdx.x % 16 * 4, y = threadIdx.x / 16 * 4;
	for (int64_t l0 = 0; l0 < sum; l0 += STEP) {
		for (int e = threadIdx.x; e < TILE * STEP; e += CTN_GEMM_F32_BLOCK) {
			int o, l;
			element(e, left_along, o, l);
			left[l][o] = f.left(i0 + o, l0 + l);
			element(e, right_along, o, l);
			right[l][o] = f.right(l0 + l, j0 + o);
		}
		__syncthreads();
#pragma unroll
		for (int l = 0; l < STEP; l++) {
			float a[4], b[4];
#pragma unroll
			for (int q = 0; q < 4; q++) a[q] = left[l][y + q], b[q] = right[l][x + q];
#pragma unroll
			for (int r = 0; r < 4; r++)
#pragma unroll
				for (int q = 0; q < 4; q++) acc[r][q] += a[r] * b[q];
		}
		__syncthreads();
	}
}

__device__ __forceinline__ void store_f32(float *c, int64_t rows, int64_t n, int64_t i0, int64_t j0,
                                          const float (&acc)[4][4], bool accumulate) {
	const int x = threadIdx.x % 16 * 4, y = threadIdx.x / 16 * 4;
#pragma unroll
	for (int r = 0; r < 4; r++)
#pragma unroll
		for (int q = 0; q < 4; q++) {
			int64_t i = i0 + y + r, j = j0 + x + q;
			if (i < rows && j < n) c[i * n + j] = accumulate ? c[i * n + j] + acc[r][q] : acc[r][q];
		}
}

// A warp's 32 x 32 part of the tile: 2 x 4 products of 16 x 8. Rows of shared memory are 48 bytes apart, so that the
// eight rows and four pairs that a warp reads at once lie in different banks.
template <class Factors>
__device__ void product_bf16(const Factors &f, int64_t sum, bool left_along, bool right_along, int64_t i0, int64_t j0,
                             float (&acc)[2][4][4]) {
	constexpr int PITCH = STEP + 8;
	STATIC_SHARED(bf16[TILE][PITCH], left);
	STATIC_SHARED(bf16[TILE][PITCH], right);
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = lane / 4, pair = lane % 4 * 2;
	const int y = warp / 2 * 32, x = warp % 2 * 32;
	for (int64_t l0 = 0; l0 < sum; l0 += STEP) {
		for (int e = threadIdx.x; e < TILE * STEP; e += CTN_GEMM_BF16_BLOCK) {
			int o, l;
			element(e, left_along, o, l);
			left[o][l] = to_bf16(f.left(i0 + o, l0 + l));
			element(e, right_along, o, l);
			right[o][l] = to_bf16(f.right(l0 + l, j0 + o));
		}
		__syncthreads();
		uint32_t a[2][4], b[4][2];
#pragma unroll
		for (int r = 0; r < 2; r++)
#pragma unroll
			for (int q = 0; q < 4; q++)
				a[r][q] = *(const uint32_t *)&left[y + 16 * r + row + q % 2 * 8][pair + q / 2 * 8];
#pragma unroll
		for (int s = 0; s < 4; s++)
#pragma unroll
			for (int q = 0; q < 2; q++) b[s][q] = *(const uint32_t *)&right[x + 8 * s + row][pair + q * 8];
#pragma unroll
		for (int r = 0; r < 2; r++)
#pragma unroll
			for (int s = 0; s < 4; s++) mma_m16n8k16_bf16(acc[r][s], a[r], b[s]);
		__syncthreads();
	}
}

__device__ __forceinline__ void store_bf16(float *c, int64_t rows, int64_t n, int64_t i0, int64_t j0,
                                           const float (&acc)[2][4][4], bool accumulate) {
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const int y = warp / 2 * 32 + lane / 4, x = warp % 2 * 32 + lane % 4 * 2;
#pragma unroll
	for (int r = 0; r < 2; r++)
#pragma unroll
		for (int s = 0; s < 4; s++)
#pragma unroll
			for (int q = 0; q < 4; q++) {
				int64_t i = i0 + y + 16 * r + q / 2 * 8, j = j0 + x + 8 * s + q % 2;
				if (i < rows && j < n) c[i * n + j] = accumulate ? c[i * n + j] + acc[r][s][q] : acc[r][s][q];
			}
}

__device__ __forceinline__ plain factors(const ctn_gemm_args &g, int64_t m) {
	return {g.a, g.b, m, g.n, g.k, g.trans_b != 0};
}
__device__ __forceinline__ transposed split(const ctn_gemm_args &g, int64_t m) {
	int64_t first = blockIdx.z * g.split;
	return {g.a, g.b, first, ctn_min(first + g.split, m), g.n, g.k};
}

} // namespace

// Grid: tiles of m, tiles of n.
CTN_ENTRY(cu_gemm_f32, const ctn_gemm_args g, CTN_GEMM_F32_BLOCK, 2) {
	int64_t m = ctn_size(g.m), i0 = (int64_t)blockIdx.x * TILE, j0 = (int64_t)blockIdx.y * TILE;
	if (i0 >= m) return;
	float acc[4][4] = {};
	product_f32(factors(g, m), g.k, true, g.trans_b, i0, j0, acc);
	store_f32(g.c, m, g.n, i0, j0, acc, g.accumulate);
}

CTN_ENTRY(cu_gemm_bf16, const ctn_gemm_args g, CTN_GEMM_BF16_BLOCK) {
	int64_t m = ctn_size(g.m), i0 = (int64_t)blockIdx.x * TILE, j0 = (int64_t)blockIdx.y * TILE;
	if (i0 >= m) return;
	float acc[2][4][4] = {};
	product_bf16(factors(g, m), g.k, true, g.trans_b, i0, j0, acc);
	store_bf16(g.c, m, g.n, i0, j0, acc, g.accumulate);
}

// Grid: tiles of k, tiles of n, splits of the rows. A split without rows writes zeros.
CTN_ENTRY(cu_gemm_tn_f32, const ctn_gemm_args g, CTN_GEMM_F32_BLOCK, 2) {
	int64_t m = ctn_size(g.m), i0 = (int64_t)blockIdx.x * TILE, j0 = (int64_t)blockIdx.y * TILE;
	transposed f = split(g, m);
	float acc[4][4] = {};
	product_f32(f, f.last - f.first, false, false, i0, j0, acc);
	store_f32(g.parts + blockIdx.z * g.k * g.n, g.k, g.n, i0, j0, acc, false);
}

CTN_ENTRY(cu_gemm_tn_bf16, const ctn_gemm_args g, CTN_GEMM_BF16_BLOCK) {
	int64_t m = ctn_size(g.m), i0 = (int64_t)blockIdx.x * TILE, j0 = (int64_t)blockIdx.y * TILE;
	transposed f = split(g, m);
	float acc[2][4][4] = {};
	product_bf16(f, f.last - f.first, false, false, i0, j0, acc);
	store_bf16(g.parts + blockIdx.z * g.k * g.n, g.k, g.n, i0, j0, acc, false);
}

// Grid: elements of c.
CTN_ENTRY(cu_gemm_tn_sum, const ctn_gemm_args g, CTN_GEMM_SUM_BLOCK) {
	int64_t i = (int64_t)blockIdx.x * CTN_GEMM_SUM_BLOCK + threadIdx.x, size = g.k * g.n,
	        splits = ctn_div_up(ctn_size(g.m), g.split);
	if (i >= size) return;
	float sum = 0;
	for (int64_t s = 0; s < splits; s++) sum += g.parts[s * size + i];
	g.c[i] = g.accumulate ? g.c[i] + sum : sum;
}
