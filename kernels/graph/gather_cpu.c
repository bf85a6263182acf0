// Sums of rows along the edges of a graph, and the small products around them.
#ifndef CTN_LANES
#include "gather.h"
#define CTN_SELF "gather_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_gather, gather)
CTN_TABLE(ctn_colsum, colsum)
CTN_TABLE(ctn_rowdot, rowdot)
CTN_TABLE(ctn_rowdot_backward, rowdot_backward)
#else

#undef TASK_ROWS
#undef TASK_COLUMNS
#undef BLOCK
#define TASK_ROWS 128
#define TASK_COLUMNS 32
#define BLOCK 8 // vectors of a row that are summed at once

// Columns [j, j + v vectors) of row r. The sums of a block stay in registers while the edges are walked once.
CTN_INLINE void FN(gather_block)(const ctn_gather_args *g, int v, int64_t r, int64_t j, const float *add) {
	vf sum[BLOCK];
	const int32_t *idx = g->idx;
	const float *in = g->in + j;
	int64_t first = g->ptr[r], last = g->ptr[r + 1], width = g->width;
#pragma GCC unroll 8
	for (int i = 0; i < v; i++) sum[i] = g->bias ? vload(g->bias + j + i * CTN_LANES) : (vf){};
	if (g->weight)
		for (int64_t e = first; e < last; e++) {
			vf w = vset(g->weight[e]);
#pragma GCC unroll 8
			for (int i = 0; i < v; i++) sum[i] += vload(in + (int64_t)idx[e] * width + i * CTN_LANES) * w;
		}
	else
		for (int64_t e = first; e < last; e++) {
#pragma GCC unroll 8
			for (int i = 0; i < v; i++) sum[i] += vload(in + (int64_t)idx[e] * width + i * CTN_LANES);
		}
	float *out = g->out + r * width + j;
	const float *mask = g->mask ? g->mask + r * width + j : 0;
#pragma GCC unroll 8
	for (int i = 0; i < v; i++) {
		if (add) sum[i] += vload(add + j + i * CTN_LANES);
		if (g->relu) sum[i] = vmaxf(sum[i], (vf){});
		if (mask) sum[i] = vselect(vload(mask + i * CTN_LANES) > (vf){}, sum[i], (vf){});
		if (g->accumulate) sum[i] += vload(out + i * CTN_LANES);
		vstore(out + i * CTN_LANES, sum[i]);
	}
}

static int64_t FN(gather_tasks)(const void *p) { return ctn_div_up(ctn_size(((const ctn_gather_args *)p)->rows), TASK_ROWS); }
static void FN(gather_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_gather_args *g = p;
	int64_t begin = task * TASK_ROWS, end = ctn_min(begin + TASK_ROWS, ctn_size(g->rows)), width = g->width;
	for (int64_t r = begin; r < end; r++) {
		const float *add = g->add ? g->add + (g->add_idx ? (int64_t)g->add_idx[r] : r) * width : 0;
		int64_t j = 0;
		for (; j + BLOCK * CTN_LANES <= width; j += BLOCK * CTN_LANES) FN(gather_block)(g, BLOCK, r, j, add);
		for (; j + 4 * CTN_LANES <= width; j += 4 * CTN_LANES) FN(gather_block)(g, 4, r, j, add);
		for (; j + CTN_LANES <= width; j += CTN_LANES) FN(gather_block)(g, 1, r, j, add);
		for (; j < width; j++) {
			float sum = g->bias ? g->bias[j] : 0;
			for (int64_t e = g->ptr[r]; e < g->ptr[r + 1]; e++) sum += g->in[(int64_t)g->idx[e] * width + j] * (g->weight ? g->weight[e] : 1.0f);
			if (add) sum += add[j];
			if (g->relu && !(sum > 0)) sum = 0;
			if (g->mask && !(g->mask[r * width + j] > 0)) sum = 0;
			float *out = g->out + r * width + j;
			*out = g->accumulate ? *out + sum : sum;
		}
	}
}

// A task owns TASK_COLUMNS columns and adds the rows in order.
static int64_t FN(colsum_tasks)(const void *p) { return ctn_div_up(((const ctn_colsum_args *)p)->width, TASK_COLUMNS); }
static void FN(colsum_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_colsum_args *g = p;
	int64_t begin = task * TASK_COLUMNS, n = ctn_min(TASK_COLUMNS, g->width - begin), rows = ctn_size(g->rows);
	float sum[TASK_COLUMNS] = {0};
	for (int64_t r = 0; r < rows; r++) {
		const float *in = g->in + r * g->width + begin;
		if (n == TASK_COLUMNS)
			for (int64_t j = 0; j < TASK_COLUMNS; j++) sum[j] += in[j];
		else
			for (int64_t j = 0; j < n; j++) sum[j] += in[j];
	}
	for (int64_t j = 0; j < n; j++) g->out[begin + j] = g->accumulate ? g->out[begin + j] + sum[j] : sum[j];
}

static int64_t FN(rowdot_tasks)(const void *p) { return ctn_div_up(ctn_size(((const ctn_rowdot_args *)p)->rows), TASK_ROWS); }
static void FN(rowdot_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_rowdot_args *g = p;
	int64_t begin = task * TASK_ROWS, end = ctn_min(begin + TASK_ROWS, ctn_size(g->rows)), width = g->width;
	for (int64_t r = begin; r < end; r++)
		for (int64_t h = 0; h < g->heads; h++) {
			const float *x = g->in + r * width, *w = g->weight + h * width;
			vf sum = {};
			int64_t j = 0;
			for (; j + CTN_LANES <= width; j += CTN_LANES) sum += vload(x + j) * vload(w + j);
			float s = vsum(sum);
			for (; j < width; j++) s += x[j] * w[j];
			g->out[r * g->heads + h] = s;
		}
}

static int64_t FN(rowdot_backward_tasks)(const void *p) { return FN(rowdot_tasks)(p); }
static void FN(rowdot_backward_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_rowdot_args *g = p;
	int64_t begin = task * TASK_ROWS, end = ctn_min(begin + TASK_ROWS, ctn_size(g->rows)), width = g->width;
	for (int64_t r = begin; r < end; r++) {
		float *out = g->dinput + r * width;
		for (int64_t j = 0; j < width; j += CTN_LANES) {
			int64_t n = ctn_min(CTN_LANES, width - j);
			vf sum = {};
			for (int64_t h = 0; h < g->heads; h++) sum += vset(g->grad[r * g->heads + h]) * vload_part(g->weight + h * width + j, n);
			if (g->mask) sum = vselect(vload_part(g->mask + r * width + j, n) > (vf){}, sum, (vf){});
			if (g->accumulate) sum += vload_part(out + j, n);
			vstore_part(out + j, sum, n);
		}
	}
}
#endif
