// Adding up what operations have left of their sums in parts, of many operations in one launch.
#include "../exec/cuda.cuh"
#include "partial.h"

namespace {

__device__ __forceinline__ float to_float(float x) { return x; }

template <class T> __device__ __forceinline__ float add_parts(const T *in, int64_t len, int first, int end) {
	float sum = 0.0f;
#pragma unroll 4
	for (int p = first; p < end; p++) sum += to_float(in[p * len]);
	return sum;
}

} // namespace

// Grid: of each sum in turn CTN_PARTIAL_BLOCK / ways elements. A way adds consecutive parts, then the ways are added in
// their order.
CTN_ENTRY(cu_partial, const ctn_partial_args g, CTN_PARTIAL_BLOCK) {
	STATIC_SHARED(float[CTN_PARTIAL_BLOCK], way_sum);
	int job = 0;
	for (int end = g.count; job + 1 < end;) { // the last one that begins at or before this block
		const int middle = (job + end) / 2;
		if (g.all[middle].first <= (int)blockIdx.x) job = middle;
		else end = middle;
	}
	const ctn_partial &s = g.all[job];
	const int across = CTN_PARTIAL_BLOCK / s.ways, column = threadIdx.x % across, way = threadIdx.x / across;
	const int64_t i = (int64_t)(blockIdx.x - s.first) * across + column;
	const int first = (int)((int64_t)way * s.parts / s.ways), end = (int)((int64_t)(way + 1) * s.parts / s.ways);
	float sum = 0.0f;
	if (i < s.len)
		sum = s.half ? add_parts((const bf16 *)s.in + i, s.len, first, end)
		             : add_parts((const float *)s.in + i, s.len, first, end);
	way_sum[threadIdx.x] = sum;
	__syncthreads();
	if (way || i >= s.len) return;
	for (int w = 1; w < s.ways; w++) sum += way_sum[w * across + column];
	const int64_t row = i / s.cols, tap = row / s.rows;
	float *to = s.out + tap * s.tap_ld + (row - tap * s.rows) * s.row_ld + (i - row * s.cols);
	*to = s.accumulate ? *to + sum : sum;
}
