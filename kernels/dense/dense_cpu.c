// What surrounds the products of dense layers: bias, ReLU and dropout; the gradient of a bias; heads of a few outputs.
#ifndef CTN_LANES
#include "dense.h"
#define CTN_SELF "dense_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_dense, dense)
CTN_TABLE(ctn_dense_backward, dense_backward)
CTN_TABLE(ctn_colsum, colsum)
CTN_TABLE(ctn_rowdot, rowdot)
CTN_TABLE(ctn_rowdot_backward, rowdot_backward)
#else

#undef TASK_ROWS
#undef TASK_COLUMNS
#undef vu
#undef vl
#define TASK_ROWS 128
#define TASK_COLUMNS CTN_COLSUM_COLUMNS
#define vu FN(dense_vu)
#define vl FN(dense_vl)
typedef uint32_t vu __attribute__((vector_size(CTN_LANES * 4)));
typedef uint64_t vl __attribute__((vector_size(CTN_LANES * 8)));

// Dropout's factors, 1/keep or 0, of `count` elements from element `first` on, both multiples of 4: four elements share
// a block of random numbers (ctn_philox, here for a vector of blocks at once). count is rounded up to whole vectors of
// blocks.
static void FN(dropout)(const ctn_dense_args *g, int64_t first, int64_t count, float *out) {
	uint32_t step = (uint32_t)*g->step;
	float keep = g->keep, kept = 1.0f / keep;
	vl lane;
	for (int l = 0; l < CTN_LANES; l++) lane[l] = (uint64_t)l;
	for (int64_t i = 0; i < count; i += 4 * CTN_LANES, out += 4 * CTN_LANES) {
		vu c[4], k0 = (vu){} + (uint32_t)g->seed, k1 = (vu){} + (uint32_t)(g->seed >> 32);
		vl block = (vl){} + (uint64_t)(first + i) / 4 + lane;
		c[0] = __builtin_convertvector(block, vu), c[1] = __builtin_convertvector(block >> 32, vu);
		c[2] = (vu){} + step, c[3] = (vu){} + g->stream;
#pragma GCC unroll 10
		for (int round = 0; round < 10; round++) {
			vl p0 = __builtin_convertvector(c[0], vl) * 0xD2511F53u,
			   p1 = __builtin_convertvector(c[2], vl) * 0xCD9E8D57u;
			c[0] = __builtin_convertvector(p1 >> 32, vu) ^ c[1] ^ k0;
			c[1] = __builtin_convertvector(p1, vu);
			c[2] = __builtin_convertvector(p0 >> 32, vu) ^ c[3] ^ k1;
			c[3] = __builtin_convertvector(p0, vu);
			k0 += 0x9E3779B9u;
			k1 += 0xBB67AE85u;
		}
		for (int q = 0; q < 4; q++) {
			vf u = __builtin_convertvector((vi)(c[q] >> 8), vf) * 0x1p-24f;
			vf f = vselect(u < vset(keep), vset(kept), (vf){});
			for (int l = 0; l < CTN_LANES; l++) out[4 * l + q] = f[l];
		}
	}
}

static int64_t FN(dense_tasks)(const void *p) {
	return ctn_div_up(ctn_size(((const ctn_dense_args *)p)->rows), CTN_DENSE_ROWS);
}
static void FN(dense_run)(const void *p, int64_t task, float *scratch) {
	const ctn_dense_args *g = p;
	int64_t begin = task * CTN_DENSE_ROWS, end = ctn_min(begin + CTN_DENSE_ROWS, ctn_size(g->rows)), w = g->width;
	if (g->keep < 1) { FN(dropout)(g, begin * w, (end - begin) * w, scratch); }
	for (int64_t r = begin; r < end; r++)
		for (int64_t j = 0; j < w; j += CTN_LANES) {
			int64_t n = ctn_min(CTN_LANES, w - j);
			vf x = vload_part(g->in + r * w + j, n);
			if (g->bias) x += vload_part(g->bias + j, n);
			if (g->relu) x = vmaxf(x, (vf){});
			if (g->keep < 1) x *= vload_part(scratch + (r - begin) * w + j, n);
			vstore_part(g->out + r * w + j, x, n);
		}
}

static int64_t FN(dense_backward_tasks)(const void *p) { return FN(dense_tasks)(p); }
static void FN(dense_backward_run)(const void *p, int64_t task, float *scratch) {
	const ctn_dense_args *g = p;
	int64_t begin = task * CTN_DENSE_ROWS, end = ctn_min(begin + CTN_DENSE_ROWS, ctn_size(g->rows)), w = g->width;
	if (g->keep < 1) { FN(dropout)(g, begin * w, (end - begin) * w, scratch); }
	for (int64_t r = begin; r < end; r++)
		for (int64_t j = 0; j < w; j += CTN_LANES) {
			int64_t n = ctn_min(CTN_LANES, w - j);
			vf d = vload_part(g->grad + r * w + j, n);
			if (g->relu) d = vselect(vload_part(g->in + r * w + j, n) > (vf){}, d, (vf){}); // in: the layer's output
			if (g->keep < 1) d *= vload_part(scratch + (r - begin) * w + j, n);
			vstore_part(g->out + r * w + j, d, n);
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

static int64_t FN(rowdot_tasks)(const void *p) {
	return ctn_div_up(ctn_size(((const ctn_rowdot_args *)p)->rows), TASK_ROWS);
}
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
			for (int64_t h = 0; h < g->heads; h++)
				sum += vset(g->grad[r * g->heads + h]) * vload_part(g->weight + h * width + j, n);
			if (g->mask) sum = vselect(vload_part(g->mask + r * width + j, n) > (vf){}, sum, (vf){});
			if (g->accumulate) sum += vload_part(out + j, n);
			vstore_part(out + j, sum, n);
		}
	}
}
#endif
