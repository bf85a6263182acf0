// Matrix products of row-major float32 matrices. The tile of c in registers is TILE_ROWS x 2 vectors.
#ifndef CTN_LANES
#include "gemm.h"
#define CTN_SELF "gemm_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_gemm_pack, gemm_pack)
CTN_TABLE(ctn_gemm, gemm)
CTN_TABLE(ctn_gemm_tn, gemm_tn)
#else

#undef PANEL
#undef TILE_ROWS
#undef TASK_ROWS
#undef TN_COLUMNS
#define PANEL (2 * CTN_LANES)
#if CTN_LANES == 16
#define TILE_ROWS 12 // 24 accumulators of the 32 registers of AVX-512
#else
#define TILE_ROWS 6 // 12 of 16
#endif
#define TASK_ROWS (TILE_ROWS * 8)
#define TN_COLUMNS (TILE_ROWS * 4)

// Copies panel `task` of b, padded with zero columns.
static int64_t FN(gemm_pack_tasks)(const void *p) { return ctn_div_up(((const ctn_gemm_args *)p)->n, PANEL); }
static void FN(gemm_pack_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_gemm_args *g = p;
	float *out = g->packed + task * PANEL * g->k;
	int64_t j0 = task * PANEL, width = ctn_min(PANEL, g->n - j0);
	if (width < PANEL) memset(out, 0, (size_t)(PANEL * g->k) * sizeof(float));
	if (g->trans_b) // rows of b one after the other: their columns of the panel stay in the cache
		for (int64_t j = 0; j < width; j++) {
			const float *from = g->b + (j0 + j) * g->k;
			for (int64_t k = 0; k < g->k; k++) out[k * PANEL + j] = from[k];
		}
	else
		for (int64_t k = 0; k < g->k; k++) memcpy(out + k * PANEL, g->b + k * g->n + j0, (size_t)width * sizeof(float));
}

// out[r] += row r of a times the panel; rows past `rows` repeat the last one and are not stored.
CTN_INLINE void FN(gemm_tile)(int64_t rows, int64_t k, const float *a, int64_t row_stride, int64_t k_stride,
                              const float *b, float *c, int64_t ldc, int64_t width, int accumulate) {
	vf acc[TILE_ROWS][2];
	const float *row[TILE_ROWS];
#pragma GCC unroll 12
	for (int r = 0; r < TILE_ROWS; r++) {
		acc[r][0] = acc[r][1] = (vf){};
		row[r] = a + ctn_min(r, rows - 1) * row_stride;
	}
	for (int64_t i = 0; i < k; i++, b += PANEL) {
		vf b0 = vload(b), b1 = vload(b + CTN_LANES);
#pragma GCC unroll 12
		for (int r = 0; r < TILE_ROWS; r++) {
			vf x = vset(row[r][i * k_stride]);
			acc[r][0] += x * b0;
			acc[r][1] += x * b1;
		}
	}
#pragma GCC unroll 12
	for (int r = 0; r < TILE_ROWS; r++) {
		if (r >= rows) break;
		float *out = c + r * ldc;
		for (int h = 0; h < 2; h++) {
			int64_t w = ctn_min(CTN_LANES, width - h * CTN_LANES);
			if (w <= 0) break;
			float *o = out + h * CTN_LANES;
			vf v = acc[r][h];
			if (w == CTN_LANES) vstore(o, accumulate ? vload(o) + v : v);
			else vstore_part(o, accumulate ? vload_part(o, w) + v : v, w);
		}
	}
}

static int64_t FN(gemm_tasks)(const void *p) {
	const ctn_gemm_args *g = p;
	return ctn_div_up(ctn_size(g->m), TASK_ROWS);
}
static void FN(gemm_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_gemm_args *g = p;
	int64_t begin = task * TASK_ROWS, end = ctn_min(begin + TASK_ROWS, ctn_size(g->m));
	for (int64_t j = 0; j < g->n; j += PANEL)
		for (int64_t i = begin; i < end; i += TILE_ROWS)
			FN(gemm_tile)(ctn_min(TILE_ROWS, end - i), g->k, g->a + i * g->k, g->k, 1, g->packed + j * g->k,
			              g->c + i * g->n + j, g->n, ctn_min(PANEL, g->n - j), g->accumulate);
}

// c (k x n) = a' b, summed over the rows of a (m x k) and b (m x n) in ascending order. A task owns a block of c.
static int64_t FN(gemm_tn_tasks)(const void *p) {
	const ctn_gemm_args *g = p;
	return ctn_div_up(g->n, PANEL) * ctn_div_up(g->k, TN_COLUMNS);
}
static void FN(gemm_tn_run)(const void *p, int64_t task, float *scratch) {
	const ctn_gemm_args *g = p;
	int64_t blocks = ctn_div_up(g->k, TN_COLUMNS), m = ctn_size(g->m);
	int64_t j = task / blocks * PANEL, width = ctn_min(PANEL, g->n - j);
	int64_t begin = task % blocks * TN_COLUMNS, end = ctn_min(begin + TN_COLUMNS, g->k);
	for (int64_t r0 = 0; r0 == 0 || r0 < m; r0 += CTN_GEMM_TN_ROWS) {
		int64_t rows = ctn_max(0, ctn_min(CTN_GEMM_TN_ROWS, m - r0));
		for (int64_t r = 0; r < rows; r++) {
			float *to = scratch + r * PANEL;
			const float *from = g->b + (r0 + r) * g->n + j;
			if (width == PANEL) vstore(to, vload(from)), vstore(to + CTN_LANES, vload(from + CTN_LANES));
			else
				for (int64_t q = 0; q < PANEL; q++) to[q] = q < width ? from[q] : 0;
		}
		for (int64_t i = begin; i < end; i += TILE_ROWS)
			FN(gemm_tile)(ctn_min(TILE_ROWS, end - i), rows, g->a + r0 * g->k + i, 1, g->k, scratch,
			              g->c + i * g->n + j, g->n, width, g->accumulate || r0 > 0);
	}
}
#endif
