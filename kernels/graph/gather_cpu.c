// Sums of rows along the edges of a graph.
#ifndef CTN_LANES
#include "gather.h"
#define CTN_SELF "gather_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_gather, gather)
#else

#undef TASK_ROWS
#undef BLOCK
#define TASK_ROWS 128
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

static int64_t FN(gather_tasks)(const void *p) {
	return ctn_div_up(ctn_size(((const ctn_gather_args *)p)->rows), TASK_ROWS);
}
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
			for (int64_t e = g->ptr[r]; e < g->ptr[r + 1]; e++)
				sum += g->in[(int64_t)g->idx[e] * width + j] * (g->weight ? g->weight[e] : 1.0f);
			if (add) sum += add[j];
			if (g->relu && !(sum > 0)) sum = 0;
			if (g->mask && !(g->mask[r * width + j] > 0)) sum = 0;
			float *out = g->out + r * width + j;
			*out = g->accumulate ? *out + sum : sum;
		}
	}
}

#endif
