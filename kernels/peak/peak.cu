// What the units of a GPU reach with nothing in their way.
#include "../exec/cuda.cuh"
#include "../exec/reduce.cuh"
#include "peak.h"

// Grid: tasks. Every thread has its chains of multiply-adds in registers: bound by the float32 units.
CTN_ENTRY(cu_peak_f32, const ctn_peak_args g, CTN_PEAK_BLOCK) {
	float chain[CTN_PEAK_CHAINS], x = 0.5f, y = 0.5f + (float)blockIdx.x;
#pragma unroll
	for (int i = 0; i < CTN_PEAK_CHAINS; i++) chain[i] = (float)i;
	for (int64_t r = 0; r < g.rounds; r++)
#pragma unroll
		for (int i = 0; i < CTN_PEAK_CHAINS; i++) chain[i] = chain[i] * x + y;
	float sum = 0;
#pragma unroll
	for (int i = 0; i < CTN_PEAK_CHAINS; i++) sum += chain[i];
	double total = block_sum<CTN_PEAK_BLOCK>(sum);
	if (threadIdx.x == 0) g.out[blockIdx.x] = (float)total;
}

// Grid: tasks. Every warp sums up tiles, the products of a matrix of ones and one of 1/16: bound by the tensor cores,
// as far as mma instructions can use them (on sm_90 about two thirds of what wgmma reaches).
CTN_ENTRY(cu_peak_bf16, const ctn_peak_args g, CTN_PEAK_BLOCK) {
	float tile[CTN_PEAK_BF16_CHAINS][4];
	const uint32_t one = pack_bf16(1.0f, 1.0f), small = pack_bf16(0.0625f, 0.0625f), a[4] = {one, one, one, one},
	               b[2] = {small, small};
#pragma unroll
	for (int i = 0; i < CTN_PEAK_BF16_CHAINS; i++)
#pragma unroll
		for (int q = 0; q < 4; q++) tile[i][q] = (float)blockIdx.x;
	for (int64_t r = 0; r < g.rounds; r++)
#pragma unroll
		for (int i = 0; i < CTN_PEAK_BF16_CHAINS; i++) mma_m16n8k16_bf16(tile[i], a, b);
	float sum = 0;
#pragma unroll
	for (int i = 0; i < CTN_PEAK_BF16_CHAINS; i++)
#pragma unroll
		for (int q = 0; q < 4; q++) sum += tile[i][q];
	double total = block_sum<CTN_PEAK_BLOCK>(sum);
	if (threadIdx.x == 0) g.out[blockIdx.x] = (float)total;
}

// Grid: elements, 16 a thread in four reads of 16 bytes; the last n % 4 are the first block's.
CTN_ENTRY(cu_copy, const ctn_copy_args g, CTN_PEAK_BLOCK) {
	constexpr int EACH = CTN_COPY_EACH / 4;
	const float4 *src = (const float4 *)g.src;
	float4 *dst = (float4 *)g.dst, x[EACH];
	const int64_t i = (int64_t)blockIdx.x * CTN_PEAK_BLOCK * EACH + threadIdx.x, n = g.n / 4;
#pragma unroll
	for (int q = 0; q < EACH; q++)
		if (i + q * CTN_PEAK_BLOCK < n) x[q] = src[i + q * CTN_PEAK_BLOCK];
#pragma unroll
	for (int q = 0; q < EACH; q++)
		if (i + q * CTN_PEAK_BLOCK < n) dst[i + q * CTN_PEAK_BLOCK] = x[q];
	if (blockIdx.x == 0 && threadIdx.x < g.n % 4) g.dst[4 * n + threadIdx.x] = g.src[4 * n + threadIdx.x];
}
