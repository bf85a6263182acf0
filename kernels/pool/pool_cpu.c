// Pooling. A task owns some pixels and goes through them with all their channels.
#ifndef CTN_LANES
#include "pool.h"
typedef char ctn_v16c __attribute__((vector_size(16)));
typedef int ctn_v16i __attribute__((vector_size(64)));
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

// The places of a vector of maxima in memory. GCC would convert element by element.
CTN_INLINE vi FN(pool_arg)(const int8_t *p) {
#if defined(__AVX512F__) && CTN_LANES == 16
	ctn_v16c small;
	memcpy(&small, p, 16);
	return (vi)__builtin_ia32_pmovsxbd512_mask(small, (ctn_v16i){}, 0xffff);
#elif defined(__AVX2__)
	vi wide;
	for (int i = 0; i < CTN_LANES; i += 8) {
		ctn_v16c small = {};
		memcpy(&small, p + i, 8);
		ctn_v8i part = (ctn_v8i)__builtin_ia32_pmovsxbd256(small);
		memcpy((int32_t *)&wide + i, &part, sizeof part);
	}
	return wide;
#else
	vb small;
	memcpy(&small, p, sizeof small);
	return __builtin_convertvector(small, vi);
#endif
}
CTN_INLINE void FN(pool_put_arg)(int8_t *p, vi arg) {
#if defined(__AVX512F__) && CTN_LANES == 16
	ctn_v16c small = __builtin_ia32_pmovdb512_mask((ctn_v16i)arg, (ctn_v16c){}, 0xffff);
#else
	vb small = __builtin_convertvector(arg, vb);
#endif
	memcpy(p, &small, sizeof small);
}

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
	int64_t begin = task * g->block, end = ctn_min(begin + g->block, g->n * g->ho * g->wo), c = g->c,
	        image = g->h * g->w;
	// The rows of the image that the task's windows touch are activated once.
	int64_t first = begin / (g->ho * g->wo) * image + ctn_max(0, begin / g->wo % g->ho * g->stride - g->pad) * g->w;
	int64_t last = (end - 1) / (g->ho * g->wo) * image +
	               ctn_min(g->h, (end - 1) / g->wo % g->ho * g->stride - g->pad + g->k) * g->w;
	input_rows(&g->in, first, last - first, 0, c, scratch, c);
	int64_t n = begin / (g->ho * g->wo), oy = begin / g->wo % g->ho, ox = begin % g->wo;
	for (int64_t o = begin; o < end; o++) {
		int64_t y0 = oy * g->stride - g->pad, x0 = ox * g->stride - g->pad;
		int64_t ky0 = ctn_max(0, -y0), ky1 = ctn_min(g->k, g->h - y0), kx0 = ctn_max(0, -x0),
		        kx1 = ctn_min(g->k, g->w - x0);
		const float *window = scratch + (n * image + y0 * g->w + x0 - first) * c;
		float share = g->average ? 1.0f / FN(pool_count)(g, y0, x0) : 1;
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
			if (g->arg) FN(pool_put_arg)(g->arg + o * g->arg_ld + j, arg);
		}
		if (++ox < g->wo) continue;
		ox = 0;
		if (++oy == g->ho) oy = 0, n++;
	}
}

// Each pixel of the input collects from the windows that cover it, in the order of the output.
static int64_t FN(pool_backward_tasks)(const void *p) {
	const ctn_pool_args *g = p;
	return ctn_div_up(g->n * g->h * g->w, g->block);
}
// One vector of channels of the pixels [x0, x1) of row y of image n, side by side in out.
CTN_INLINE void FN(pool_collect)(const ctn_pool_args *g, int64_t n, int64_t y, int64_t x0, int64_t x1, int64_t c,
                                 int64_t m, float *out, const int average) {
	int64_t k = g->k, stride = g->stride, from = y + g->pad;
	int64_t oy0 = from < k      ? 0
	              : stride == 1 ? from - k + 1
	                            : ctn_div_up(from - k + 1, stride),
	        oy1 = ctn_min(g->ho - 1, stride == 1 ? from : from / stride);
	for (int64_t x = x0 + g->pad; x < x1 + g->pad; x++, out += CTN_LANES) {
		int64_t ox0 = x < k         ? 0
		              : stride == 1 ? x - k + 1
		                            : ctn_div_up(x - k + 1, stride),
		        ox1 = ctn_min(g->wo - 1, stride == 1 ? x : x / stride);
		vf sum = {};
		for (int64_t oy = oy0; oy <= oy1; oy++)
			for (int64_t ox = ox0; ox <= ox1; ox++) {
				int64_t o = (n * g->ho + oy) * g->wo + ox;
				vf d = vload_part(g->grad + o * g->c + c, m);
				if (average) {
					sum += d * (1.0f / FN(pool_count)(g, oy * stride - g->pad, ox * stride - g->pad));
					continue;
				}
				vi mine = FN(pool_arg)(g->arg + o * g->arg_ld + c) ==
				          (int32_t)((from - oy * stride) * k + x - ox * stride);
				sum += vselect(mine, d, (vf){});
			}
		vstore(out, sum);
	}
}
static void FN(pool_backward_run)(const void *p, int64_t task, float *scratch) {
	const ctn_pool_args *g = p;
	int64_t begin = task * g->block, end = ctn_min(begin + g->block, g->n * g->h * g->w), c = g->c, run;
	float *stats = g->sink.stats ? g->sink.stats + task * 2 * g->sink.stats_ld : 0;
	for (int64_t i = begin; i < end; i += run) { // what the task has of a row
		int64_t n = i / (g->h * g->w), y = i / g->w % g->h, x = i % g->w;
		run = ctn_min(end - i, g->w - x);
		for (int64_t j = 0; j < c; j += CTN_LANES) {
			int64_t m = ctn_min(CTN_LANES, c - j);
			if (g->average) FN(pool_collect)(g, n, y, x, x + run, j, m, scratch, 1);
			else if (m == CTN_LANES) FN(pool_collect)(g, n, y, x, x + run, j, CTN_LANES, scratch, 0);
			else FN(pool_collect)(g, n, y, x, x + run, j, m, scratch, 0);
			sink_part_column(&g->sink, i, run, j, m, scratch, CTN_LANES, stats, i == begin);
		}
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
			for (int64_t j = 0; x && j < c; j += CTN_LANES)
				vstore_part(sum + j, vload_part(sum + j, c - j) + vload_part(row + j, c - j), c - j);
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
