// The weights of a program's convolutions, put in the order in which tiles read them, in one launch.
#include "../exec/cuda.cuh"
#include "pack.h"

// Grid: of each weight in turn CTN_PACK_ROWS rows, which run fastest, by CTN_PACK_COLS columns, and groups.
CTN_ENTRY(cu_conv_pack, const ctn_conv_pack_args g, CTN_PACK_BLOCK) {
	constexpr int COLS = CTN_PACK_COLS, ROWS = CTN_PACK_ROWS, EACH = COLS * ROWS / CTN_PACK_BLOCK;
	STATIC_SHARED(float[COLS][ROWS + 1], piece);
	int job = 0;
	for (int end = g.count; job + 1 < end;) { // the last one that begins at or before this block
		const int middle = (job + end) / 2;
		if (g.all[middle].first <= (int)blockIdx.x) job = middle;
		else end = middle;
	}
	const ctn_conv_packed w = g.all[job];
	const int rows = w.steps * w.step, down = (rows + ROWS - 1) / ROWS, across = w.tiles * w.tile_cols / COLS;
	const int block = blockIdx.x - w.first, row0 = block % down * ROWS, column0 = block / down % across * COLS,
	          group = block / (down * across);
	float v[EACH];
#pragma unroll
	for (int q = 0; q < EACH; q++) {
		const int i = q * CTN_PACK_BLOCK + threadIdx.x;
		// Neighbours in the weight: columns forward, channels backward.
		const int row = row0 + (w.transposed ? i % ROWS : i / COLS),
		          j = column0 + (w.transposed ? i / ROWS : i % COLS), tap = row / w.pad, c = row - tap * w.pad,
		          from = w.transposed && w.layout == CTN_PACK_SWIZZLED ? w.taps - 1 - tap : tap;
		v[q] = 0.0f;
		if (tap < w.taps && c < w.depth && j < w.cols)
			v[q] = w.weight[(int64_t)from * w.tap_ld + (w.transposed ? (int64_t)j * w.weight_ld + group * w.depth + c
			                                                         : (int64_t)c * w.weight_ld + group * w.cols + j)];
	}
#pragma unroll
	for (int q = 0; q < EACH; q++) {
		const int i = q * CTN_PACK_BLOCK + threadIdx.x;
		piece[w.transposed ? i / ROWS : i % COLS][w.transposed ? i % ROWS : i / COLS] = v[q];
	}
	__syncthreads();
	const int64_t tile = (int64_t)(group * w.tiles + column0 / w.tile_cols) * w.steps, from = column0 % w.tile_cols;
#pragma unroll
	for (int q = 0; q < EACH; q++) {
		const int i = q * CTN_PACK_BLOCK + threadIdx.x;
		const bool along = w.layout != CTN_PACK_F32;
		const int column = along ? i / ROWS : i % COLS, row = along ? i % ROWS : i / COLS;
		if (row0 + row >= rows) continue;
		const int step = (row0 + row) / w.step;
		int k = row0 + row - step * w.step;
		if (w.layout == CTN_PACK_SWIZZLED) k ^= (from + column) % 8 * 8;
		const int64_t at = (tile + step) * w.tile_cols * w.step;
		if (along) ((bf16 *)w.packed)[at + (from + column) * w.step + k] = to_bf16(piece[column][row]);
		else ((float *)w.packed)[at + k * w.tile_cols + from + column] = piece[column][row];
	}
}
