// The gated unit of the node-by-node encoder, and the elementwise parts of a dense layer.
#ifndef CTN_LANES
#include "gated.h"
#define CTN_SELF "gated_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_gated, gated)
CTN_TABLE(ctn_gated_backward, gated_backward)
CTN_TABLE(ctn_dense, dense)
CTN_TABLE(ctn_dense_backward, dense_backward)
#else

#undef TASK_ROWS
#undef vu
#undef vl
#define TASK_ROWS CTN_DENSE_ROWS
#define vu FN(dense_vu)
#define vl FN(dense_vl)
typedef uint32_t vu __attribute__((vector_size(CTN_LANES * 4)));
typedef uint64_t vl __attribute__((vector_size(CTN_LANES * 8)));

static int64_t FN(gated_tasks)(const void *p) { return ctn_div_up(ctn_size(((const ctn_gated_args *)p)->rows), TASK_ROWS); }
static void FN(gated_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_gated_args *g = p;
	int64_t begin = task * TASK_ROWS, end = ctn_min(begin + TASK_ROWS, ctn_size(g->rows)), w = g->width;
	for (int64_t r = begin; r < end; r++) {
		const float *e = g->table + (int64_t)g->label[r] * 2 * w, *m = g->scale + (int64_t)g->label[r] * 2 * w, *y = g->product + r * 2 * w;
		float *gate = g->gates + r * 2 * w;
		for (int64_t j = 0; j < w; j += CTN_LANES) {
			int64_t n = ctn_min(CTN_LANES, w - j);
			vf z = vload_part(e + j, n), t = vload_part(e + w + j, n), a = {};
			if (g->heard) {
				a = vload_part(g->heard + r * w + j, n);
				z += vload_part(m + j, n) * vload_part(y + j, n);
				t += vload_part(m + w + j, n) * vload_part(y + w + j, n);
			}
			z = vsigmoid(z);
			t = vtanh(t);
			vstore_part(gate + j, z, n);
			vstore_part(gate + w + j, t, n);
			vstore_part(g->out + r * w + j, z * t + (1.0f - z) * a, n);
		}
	}
}

static int64_t FN(gated_backward_tasks)(const void *p) { return FN(gated_tasks)(p); }
static void FN(gated_backward_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_gated_args *g = p;
	int64_t begin = task * TASK_ROWS, end = ctn_min(begin + TASK_ROWS, ctn_size(g->rows)), w = g->width;
	for (int64_t r = begin; r < end; r++) {
		const float *m = g->scale + (int64_t)g->label[r] * 2 * w;
		float *gate = g->gates + r * 2 * w, *y = g->product + r * 2 * w, *dy = g->dproduct + r * 2 * w;
		for (int64_t j = 0; j < w; j += CTN_LANES) {
			int64_t n = ctn_min(CTN_LANES, w - j);
			vf z = vload_part(gate + j, n), t = vload_part(gate + w + j, n), d = vload_part(g->grad + r * w + j, n), a = {};
			if (g->heard) {
				a = vload_part(g->heard + r * w + j, n);
				vstore_part(g->dheard + r * w + j, d * (1.0f - z), n);
			}
			vf dz = d * (t - a) * z * (1.0f - z), dt = d * z * (1.0f - t * t);
			vstore_part(gate + j, dz, n);
			vstore_part(gate + w + j, dt, n);
			if (g->heard) {
				vstore_part(dy + j, dz * vload_part(m + j, n), n);
				vstore_part(dy + w + j, dt * vload_part(m + w + j, n), n);
				vstore_part(y + j, dz * vload_part(y + j, n), n);
				vstore_part(y + w + j, dt * vload_part(y + w + j, n), n);
			}
		}
	}
}

// Dropout's factors, 1/keep or 0, of `count` elements from element `first` on, both multiples of 4: four elements share a block of random
// numbers (ctn_philox, here for a vector of blocks at once). count is rounded up to whole vectors of blocks.
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
			vl p0 = __builtin_convertvector(c[0], vl) * 0xD2511F53u, p1 = __builtin_convertvector(c[2], vl) * 0xCD9E8D57u;
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

static int64_t FN(dense_tasks)(const void *p) { return ctn_div_up(ctn_size(((const ctn_dense_args *)p)->rows), TASK_ROWS); }
static void FN(dense_run)(const void *p, int64_t task, float *scratch) {
	const ctn_dense_args *g = p;
	int64_t begin = task * TASK_ROWS, end = ctn_min(begin + TASK_ROWS, ctn_size(g->rows)), w = g->width;
	if (g->keep < 1) {
		FN(dropout)(g, begin * w, (end - begin) * w, scratch);
	}
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
	int64_t begin = task * TASK_ROWS, end = ctn_min(begin + TASK_ROWS, ctn_size(g->rows)), w = g->width;
	if (g->keep < 1) {
		FN(dropout)(g, begin * w, (end - begin) * w, scratch);
	}
	for (int64_t r = begin; r < end; r++)
		for (int64_t j = 0; j < w; j += CTN_LANES) {
			int64_t n = ctn_min(CTN_LANES, w - j);
			vf d = vload_part(g->grad + r * w + j, n);
			if (g->relu) d = vselect(vload_part(g->in + r * w + j, n) > (vf){}, d, (vf){}); // in: the layer's output
			if (g->keep < 1) d *= vload_part(scratch + (r - begin) * w + j, n);
			vstore_part(g->out + r * w + j, d, n);
		}
}
#endif
