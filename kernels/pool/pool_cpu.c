// Pooling. A task owns some pixels and goes through them with all their channels.
#ifndef CTN_LANES
#include "pool_cpu.h"
#define CTN_SELF "pool_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_pool, pool)
CTN_TABLE(ctn_pool_backward, pool_backward)
CTN_TABLE(ctn_pool_global, pool_global)
CTN_TABLE(ctn_pool_global_backward, pool_global_backward)
#else
#include "../tensor/load.h"

#undef vb
#define vb FN(pool_vb)
typedef int8_t vb __attribute__((vector_size(CTN_LANES)));

// How many pixels of the image a window that starts at y, x covers, or all of them.
CTN_INLINE float FN(pool_count)(const ctn_pool_args *g, int64_t y, int64_t x) {
	if (g->count_pad) return (float)(g->k * g->k);
	int64_t h = ctn_min(y + g->k, g->h) - ctn_max(y, 0), w = ctn_min(x + g->k, g->w) - ctn_max(x, 0);
	return (float)(h * w);
}

static int64_t FN(pool_tasks)(const void *p) {
	const ctn_pool_args *g = p;
	return ctn_div_up(g->n * g->ho * g->wo, g->block);
}
static void FN(pool_run)(const void *p, int64_t task, float *scratch) {
	const ctn_pool_args *g = p;
	int64_t begin = task * g->block, end = ctn_min(begin + g->block, g->n * g->ho * g->wo), c = g->c, image = g->h * g->w;
	// The rows of the image that the task's windows touch are activated once.
	int64_t first = begin / (g->ho * g->wo) * image + ctn_max(0, begin / g->wo % g->ho * g->stride - g->pad) * g->w;
	int64_t last = (end - 1) / (g->ho * g->wo) * image + ctn_min(g->h, (end - 1) / g->wo % g->ho * g->stride - g->pad + g->k) * g->w;
	for (int64_t i = first; i < last; i++) input_row(&g->in, i, 0, c, scratch + (i - first) * c);
	for (int64_t o = begin; o < end; o++) {
		int64_t n = o / (g->ho * g->wo), y0 = o / g->wo % g->ho * g->stride - g->pad, x0 = o % g->wo * g->stride - g->pad;
		int64_t ky0 = ctn_max(0, -y0), ky1 = ctn_min(g->k, g->h - y0), kx0 = ctn_max(0, -x0), kx1 = ctn_min(g->k, g->w - x0);
		const float *window = scratch + (n * image + y0 * g->w + x0 - first) * c;
		float share = 1.0f / FN(pool_count)(g, y0, x0);
		for (int64_t j = 0; j < c; j += CTN_LANES) {
			int64_t m = c - j;
			vf best = g->average ? (vf){} : vset(-INFINITY);
			vi arg = (vi){} + (int32_t)(ky0 * g->k + kx0);
			for (int64_t ky = ky0; ky < ky1; ky++)
				for (int64_t kx = kx0; kx < kx1; kx++) {
					vf v = vload_part(window + (ky * g->w + kx) * c + j, m);
					if (g->average) {
						best += v;
						continue;
					}
					vi more = ~(v <= best); // so that a NaN wins and is passed on
					best = vselect(more, v, best);
					arg = (more & (int32_t)(ky * g->k + kx)) | (~more & arg);
				}
			if (g->average) best *= share;
			vstore_part(g->out + o * c + j, best, m);
			if (g->arg) {
				vb small = __builtin_convertvector(arg, vb);
				memcpy(g->arg + o * g->arg_ld + j, &small, sizeof small);
			}
		}
	}
}

// Each pixel of the input collects from the windows that cover it, in the order of the output.
static int64_t FN(pool_backward_tasks)(const void *p) {
	const ctn_pool_args *g = p;
	return ctn_div_up(g->n * g->h * g->w, g->block);
}
static void FN(pool_backward_run)(const void *p, int64_t task, float *scratch) {
	const ctn_pool_args *g = p;
	int64_t begin = task * g->block, end = ctn_min(begin + g->block, g->n * g->h * g->w), c = g->c;
	float *stats = g->sink.stats ? g->sink.stats + task * 2 * g->sink.stats_ld : 0;
	for (int64_t i = begin; i < end; i++) {
		int64_t n = i / (g->h * g->w), y = i / g->w % g->h + g->pad, x = i % g->w + g->pad;
		int64_t oy0 = ctn_max(0, ctn_div_up(y - g->k + 1, g->stride)), oy1 = ctn_min(g->ho - 1, y / g->stride);
		int64_t ox0 = ctn_max(0, ctn_div_up(x - g->k + 1, g->stride)), ox1 = ctn_min(g->wo - 1, x / g->stride);
		if (y < g->k) oy0 = 0;
		if (x < g->k) ox0 = 0;
		for (int64_t j = 0; j < c; j += CTN_LANES) {
			int64_t m = c - j;
			vf sum = {};
			for (int64_t oy = oy0; oy <= oy1; oy++)
				for (int64_t ox = ox0; ox <= ox1; ox++) {
					int64_t o = (n * g->ho + oy) * g->wo + ox;
					vf d = vload_part(g->grad + o * c + j, m);
					if (g->average) {
						sum += d * (1.0f / FN(pool_count)(g, oy * g->stride - g->pad, ox * g->stride - g->pad));
						continue;
					}
					vb small;
					memcpy(&small, g->arg + o * g->arg_ld + j, sizeof small);
					vi mine = __builtin_convertvector(small, vi) == (int32_t)((y - oy * g->stride) * g->k + x - ox * g->stride);
					sum += vselect(mine, d, (vf){});
				}
			vstore_part(scratch + j, sum, m);
		}
		sink_row(&g->sink, i, 0, c, scratch, stats, i == begin);
	}
}

// The mean over an image. A task owns an image; a row's pixels are added first, then the rows.
static int64_t FN(pool_global_tasks)(const void *p) { return ((const ctn_pool_args *)p)->n; }
static void FN(pool_global_run)(const void *p, int64_t task, float *scratch) {
	const ctn_pool_args *g = p;
	int64_t c = g->c;
	float *row = scratch, *sum = scratch + c, *out = g->out + task * c, share = 1.0f / (float)(g->h * g->w);
	memset(out, 0, (size_t)c * sizeof(float));
	for (int64_t y = 0; y < g->h; y++) {
		for (int64_t x = 0; x < g->w; x++) {
			input_row(&g->in, (task * g->h + y) * g->w + x, 0, c, x ? row : sum);
			for (int64_t j = 0; x && j < c; j += CTN_LANES) vstore_part(sum + j, vload_part(sum + j, c - j) + vload_part(row + j, c - j), c - j);
		}
		for (int64_t j = 0; j < c; j++) out[j] += sum[j];
	}
	for (int64_t j = 0; j < c; j++) out[j] *= share;
}

static int64_t FN(pool_global_backward_tasks)(const void *p) {
	const ctn_pool_args *g = p;
	return ctn_div_up(g->n * g->h * g->w, g->block);
}
static void FN(pool_global_backward_run)(const void *p, int64_t task, float *scratch) {
	const ctn_pool_args *g = p;
	int64_t begin = task * g->block, end = ctn_min(begin + g->block, g->n * g->h * g->w), c = g->c, image = g->h * g->w;
	float *stats = g->sink.stats ? g->sink.stats + task * 2 * g->sink.stats_ld : 0, share = 1.0f / (float)image;
	for (int64_t i = begin; i < end; i++) {
		if (i == begin || i % image == 0)
			for (int64_t j = 0; j < c; j++) scratch[j] = g->grad[i / image * c + j] * share;
		sink_row(&g->sink, i, 0, c, scratch, stats, i == begin);
	}
}
#endif
