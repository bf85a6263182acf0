// What the float32 kernels of layers share: a thread has four columns of eight rows, in registers.
#ifndef CTN_PIECE_CUH
#define CTN_PIECE_CUH
#include "../exec/cuda.cuh"
#include "graph.h"

namespace {

typedef float piece[CTN_PIECE_ROWS][4];

__device__ __forceinline__ void load4(float (&x)[4], const float *p) {
	float4 v = *(const float4 *)p;
	x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
}
__device__ __forceinline__ void store4(float *p, const float (&x)[4]) {
	*(float4 *)p = make_float4(x[0], x[1], x[2], x[3]);
}
__device__ __forceinline__ void store_rows(float *p, int w, const piece &x) {
#pragma unroll
	for (int v = 0; v < CTN_PIECE_ROWS; v++) store4(p + v * w, x[v]);
}

// out = rows x m: the eight rows lie in shared memory, the matrix (w x w) streams through `slab`, two slabs of
// CTN_PIECE_SLAB rows. All threads of the block come here; what they wrote to the rows before may be read, and when
// they leave they may write to them again.
__device__ __forceinline__ void multiply(piece &out, const float *rows, const float *m, int w, int column,
                                         float *slab) {
	auto load = [&](int s) {
		for (int e = threadIdx.x * 4; e < CTN_PIECE_SLAB * w; e += blockDim.x * 4)
			cp_async16(slab + s % 2 * CTN_PIECE_SLAB * w + e, m + s * CTN_PIECE_SLAB * w + e);
		cp_async_commit();
	};
#pragma unroll
	for (int v = 0; v < CTN_PIECE_ROWS; v++)
#pragma unroll
		for (int c = 0; c < 4; c++) out[v][c] = 0;
	load(0);
	for (int s = 0; s < w / CTN_PIECE_SLAB; s++) {
		cp_async_wait<0>();
		__syncthreads();
		if (s + 1 < w / CTN_PIECE_SLAB) load(s + 1);
		const float *b = slab + s % 2 * CTN_PIECE_SLAB * w + column;
#pragma unroll
		for (int k = 0; k < CTN_PIECE_SLAB; k += 4) {
			float a[CTN_PIECE_ROWS][4];
#pragma unroll
			for (int v = 0; v < CTN_PIECE_ROWS; v++) load4(a[v], rows + v * w + s * CTN_PIECE_SLAB + k);
#pragma unroll
			for (int q = 0; q < 4; q++) {
				float x[4];
				load4(x, b + (k + q) * w);
#pragma unroll
				for (int v = 0; v < CTN_PIECE_ROWS; v++)
#pragma unroll
					for (int c = 0; c < 4; c++) out[v][c] += a[v][q] * x[c];
			}
		}
	}
	__syncthreads();
}

} // namespace

#endif
