// A round of messages over shared rows: a task's rows are multiplied while they are in the caches.
#ifndef CTN_LANES
#include "layer.h"
#define CTN_SELF "layer_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_layer, layer)
#else

#undef ROWS
#define ROWS 8 // multiplied at once

static int64_t FN(layer_tasks)(const void *p) {
	return ctn_div_up(ctn_size(((const ctn_layer_args *)p)->rows), CTN_LAYER_TASK);
}
static void FN(layer_run)(const void *p, int64_t task, float *scratch) {
	const ctn_layer_args *g = p;
	int64_t w = g->width, begin = task * CTN_LAYER_TASK, end = ctn_min(begin + CTN_LAYER_TASK, ctn_size(g->rows));
	const float *in = g->in, *own = g->table ? g->table : g->own;
	float *out = g->out, *out_own = g->out_own;
	for (int64_t r = begin; r < end; r++) {
		int64_t self = g->table ? r : g->self[r] - g->first;
		float *h = scratch + (r - begin) * w;
		for (int64_t j = 0; j < w; j += CTN_LANES) {
			vf sum = vload(own + self * w + j);
			for (int64_t e = g->table ? 0 : g->ptr[r]; !g->table && e < g->ptr[r + 1]; e++)
				sum += vload(in + (int64_t)(g->idx[e] - g->first) * w + j);
			if (g->bias) sum += vload(g->bias + j);
			if (g->relu) sum = vmaxf(sum, (vf){});
			vstore(h + j, sum);
		}
		for (int64_t s = 0; g->score && s < g->heads; s++) {
			vf sum = {};
			for (int64_t j = 0; j < w; j += CTN_LANES) sum += vload(h + j) * vload(g->head + s * w + j);
			g->score[r * g->heads + s] = vsum(sum);
		}
	}
	if (!g->matrix) return;
	memset(scratch + (end - begin) * w, 0, (size_t)((begin + CTN_LAYER_TASK - end) * w) * sizeof(float));
	for (int64_t r = 0; begin + r < end; r += ROWS)
		for (int64_t j = 0; j < w; j += CTN_LANES) {
			vf sum[ROWS] = {};
			for (int64_t k = 0; k < w; k++) {
				vf b = vload(g->matrix + k * w + j);
#pragma GCC unroll 8
				for (int v = 0; v < ROWS; v++) sum[v] += scratch[(r + v) * w + k] * b;
			}
			for (int64_t v = 0; v < ROWS && begin + r + v < end; v++) {
				vstore(out + (begin + r + v) * w + j, sum[v]);
				if (out_own) vstore(out_own + (begin + r + v) * w + j, sum[v] + vload(scratch + (r + v) * w + j));
			}
		}
}
#endif
