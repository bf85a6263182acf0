// Sums of rows along the edges of a graph, bound by memory.
#include "../exec/cuda.cuh"
#include "gather.h"

namespace {

constexpr int WARPS = CTN_GRAPH_BLOCK / 32;
constexpr int64_t LONG = 32; // a row with more edges is summed by all warps

// Adds edges first, first + step, ... before last. at: a lane's columns.
template <int COLUMNS>
__device__ __forceinline__ void add_edges(const ctn_gather_args &g, int64_t first, int64_t last, int step,
                                          const int64_t (&at)[COLUMNS], float (&sum)[COLUMNS]) {
#pragma unroll 4
	for (int64_t e = first; e < last; e += step) {
		const float *in = g.in + (int64_t)g.idx[e] * g.width;
		float weight = g.weight ? g.weight[e] : 1.0f;
#pragma unroll
		for (int q = 0; q < COLUMNS; q++) sum[q] += in[at[q]] * weight;
	}
}

// Stores the columns of row r, from `column` on every 32nd, whose edges add up to sum.
template <int COLUMNS>
__device__ __forceinline__ void finish(const ctn_gather_args &g, int64_t r, int64_t column,
                                       const float (&sum)[COLUMNS]) {
	const float *add = g.add ? g.add + (g.add_idx ? (int64_t)g.add_idx[r] : r) * g.width : nullptr;
#pragma unroll
	for (int q = 0; q < COLUMNS; q++) {
		int64_t j = column + 32 * q, i = r * g.width + j;
		if (j >= g.width) break;
		float x = sum[q];
		if (g.bias) x += g.bias[j];
		if (add) x += add[j];
		if (g.relu && !(x > 0)) x = 0;
		if (g.mask && !(g.mask[i] > 0)) x = 0;
		g.out[i] = g.accumulate ? g.out[i] + x : x;
	}
}

// 32 x COLUMNS columns from `column` on. Lanes past the last column load it too, so that no load waits for a branch.
template <int COLUMNS>
__device__ __forceinline__ void gather(const ctn_gather_args &g, int64_t begin, int64_t end, int64_t column,
                                       float (&parts)[WARPS][CTN_GATHER_COLUMNS]) {
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	int64_t at[COLUMNS];
#pragma unroll
	for (int q = 0; q < COLUMNS; q++) at[q] = ctn_min(column + lane + 32 * q, g.width - 1);
	if (begin + warp < end) {
		int64_t r = begin + warp, first = g.ptr[r], last = g.ptr[r + 1];
		if (last - first <= LONG) {
			float sum[COLUMNS] = {};
			add_edges(g, first, last, 1, at, sum);
			finish(g, r, column + lane, sum);
		}
	}
	for (int64_t r = begin; r < end; r++) {
		int64_t first = g.ptr[r], last = g.ptr[r + 1];
		if (last - first <= LONG) continue;
		float sum[COLUMNS] = {};
		add_edges(g, first + warp, last, WARPS, at, sum);
#pragma unroll
		for (int q = 0; q < COLUMNS; q++) parts[warp][32 * q + lane] = sum[q];
		__syncthreads();
		if (warp == 0) {
			for (int w = 1; w < WARPS; w++)
#pragma unroll
				for (int q = 0; q < COLUMNS; q++) sum[q] += parts[w][32 * q + lane];
			finish(g, r, column + lane, sum);
		}
		__syncthreads();
	}
}

} // namespace

// Grid: block_rows rows and 128 columns a block, columns fastest. A warp sums a row, edge after edge. The rows that
// have many edges follow: the warps share the edges, warp w has edges w, w + 8, ..., and their sums are added in order.
CTN_ENTRY(cu_gather, const ctn_gather_args g, CTN_GRAPH_BLOCK) {
	STATIC_SHARED(float[WARPS][CTN_GATHER_COLUMNS], parts);
	const uint32_t across = (uint32_t)ctn_div_up(g.width, CTN_GATHER_COLUMNS);
	const int64_t begin = (int64_t)(blockIdx.x / across) * g.block_rows,
	              end = ctn_min(begin + g.block_rows, ctn_size(g.rows));
	const int64_t column = (int64_t)(blockIdx.x % across) * CTN_GATHER_COLUMNS, left = g.width - column;
	if (left > 64) gather<4>(g, begin, end, column, parts);
	else if (left > 32) gather<2>(g, begin, end, column, parts);
	else gather<1>(g, begin, end, column, parts);
}
