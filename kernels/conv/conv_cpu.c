// Dense convolutions as products of matrices whose rows are never written out. A row of the product is a pixel; the
// micro-kernel follows a pointer a row and tap to that tap's channels. Pixels outside the image are a row of zeros.
#ifndef CTN_LANES
#include "conv.h"
#include <string.h>

// The place of row r, counted from the first of all images. Rows of the backward direction are ordered by their phase
// modulo the stride, so that the rows of a tile have the same taps.
typedef struct ctn_conv_place {
	int64_t n, y, x, phase_y, phase_x;
} ctn_conv_place;

static inline int64_t phase_size(int64_t size, int64_t phase, int64_t step) {
	return size > phase ? (size - phase - 1) / step + 1 : 0;
}

static ctn_conv_place ctn_conv_find(int64_t height, int64_t width, int64_t step_y, int64_t step_x, int64_t r) {
	ctn_conv_place p = {r / (height * width), 0, 0, 0, 0};
	r -= p.n * height * width;
	for (;; p.phase_x + 1 < step_x ? p.phase_x++ : (p.phase_x = 0, p.phase_y++)) {
		int64_t w = phase_size(width, p.phase_x, step_x), size = phase_size(height, p.phase_y, step_y) * w;
		if (r < size) {
			p.y = r / w * step_y + p.phase_y, p.x = r % w * step_x + p.phase_x;
			return p;
		}
		r -= size;
	}
}

static inline void ctn_conv_next(ctn_conv_place *p, int64_t height, int64_t width, int64_t step_y, int64_t step_x) {
	p->x += step_x;
	if (p->x < width) return;
	p->x = p->phase_x, p->y += step_y;
	if (p->y < height) return;
	do {
		if (++p->phase_x == step_x) {
			p->phase_x = 0;
			if (++p->phase_y == step_y) p->phase_y = 0, p->n++;
		}
		p->y = p->phase_y, p->x = p->phase_x;
	} while (p->y >= height || p->x >= width);
}

// Fills written[r] with the pixel that row first + r writes and, for each tap, read[tap * ld + r] with the one that it
// reads, or -1; [*low, *high) are those that are read. The taps of a gradient of stride 1 are turned round, as
// conv_pack turns the weight, so that side by side they read pixels side by side.
static void ctn_conv_rows(const ctn_window *a, int transposed, int64_t first, int64_t rows, int64_t ld,
                          int32_t *written, int32_t *read, int32_t *low, int32_t *high) {
	int64_t height = transposed ? a->h : a->ho, width = transposed ? a->w : a->wo;
	int64_t step_y = transposed ? a->stride_h : 1, step_x = transposed ? a->stride_w : 1;
	int64_t from_h = transposed ? a->ho : a->h, from_w = transposed ? a->wo : a->w;
	int apart = transposed && (a->stride_h > 1 || a->stride_w > 1); // outputs do not lie side by side
	int64_t pad_h = transposed && !apart ? (a->kh - 1) * a->dilation - a->pad_h : a->pad_h,
	        pad_w = transposed && !apart ? (a->kw - 1) * a->dilation - a->pad_w : a->pad_w;
	int64_t stride_y = transposed ? 1 : a->stride_h, stride = transposed ? 1 : a->stride_w;
	ctn_conv_place p = ctn_conv_find(height, width, step_y, step_x, first);
	*low = INT32_MAX, *high = 0;
	for (int64_t r = 0, run; r < rows; r += run) { // rows of the product along a row of the image
		run = ctn_min(rows - r, ctn_div_up(width - p.x, step_x));
		int32_t at = (int32_t)((p.n * height + p.y) * width + p.x);
		for (int64_t i = 0; written && i < run; i++) written[r + i] = at + (int32_t)(i * step_x);
		for (int64_t tap = 0, ky = 0, kx = 0; tap < a->kh * a->kw; tap++, ++kx < a->kw ? 0 : (kx = 0, ky++)) {
			int64_t y, x, i0 = 0, i1 = run;
			if (apart) {
				y = p.y + a->pad_h - ky * a->dilation, x = p.x + a->pad_w - kx * a->dilation;
				int64_t rest_x = (x % a->stride_w + a->stride_w) % a->stride_w;
				if (y < 0 || y % a->stride_h || rest_x) i1 = 0;
				y /= a->stride_h, x = (x - rest_x) / a->stride_w;
			} else y = p.y * stride_y - pad_h + ky * a->dilation, x = p.x * stride - pad_w + kx * a->dilation;
			// Row r + i reads column x + i * stride, which is inside for i0 <= i < i1.
			if (y < 0 || y >= from_h) i1 = 0;
			if (x < 0) i0 = ctn_min(run, ctn_div_up(-x, stride));
			i1 = x >= from_w ? 0 : ctn_min(i1, stride == 1 ? from_w - x : (from_w - 1 - x) / stride + 1);
			if (i1 <= i0) i0 = i1 = 0;
			int32_t from = (int32_t)((p.n * from_h + y) * from_w + x);
			if (i1 > i0) {
				*low = ctn_min(*low, from + (int32_t)(i0 * stride));
				*high = ctn_max(*high, from + (int32_t)((i1 - 1) * stride) + 1);
			}
			if (!read) continue;
			int32_t *to = read + tap * ld + r;
			for (int64_t i = 0; i < i0; i++) to[i] = -1;
			for (int64_t i = i0; i < i1; i++) to[i] = from + (int32_t)(i * stride);
			for (int64_t i = i1; i < run; i++) to[i] = -1;
		}
		p.x += (run - 1) * step_x;
		ctn_conv_next(&p, height, width, step_y, step_x);
	}
	if (*low > *high) *low = *high;
}

int64_t ctn_conv_band(const ctn_window *a, int transposed, int64_t block) {
	int64_t total = transposed ? a->n * a->h * a->w : a->n * a->ho * a->wo, most = 0;
	for (int64_t first = 0; first < total; first += block) {
		int32_t low, high;
		ctn_conv_rows(a, transposed, first, ctn_min(block, total - first), 0, 0, 0, &low, &high);
		most = ctn_max(most, high - low);
	}
	return most;
}

#define CTN_SELF "conv_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_conv_pack, conv_pack)
CTN_TABLE(ctn_conv, conv)
CTN_TABLE(ctn_conv_weight, conv_weight)
CTN_TABLE(ctn_conv_reduce, conv_reduce)
#else
#include "tile.h"

// Where registers hold whole vectors, rows become columns within them. Wider vectors than registers would be taken apart.
#undef TURN
#if defined(__AVX512F__) && CTN_LANES == 16
#define TURN 1
#define LANES {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
#elif defined(__AVX2__) && CTN_LANES == 8
#define TURN 1
#define LANES {0, 1, 2, 3, 4, 5, 6, 7}
#endif
#ifdef TURN
// Writes CTN_LANES columns of some rows, ld apart, as rows of a panel: the first rows' as many as there are, then zeros.
// Step d exchanges the halves, beside the diagonal, of all blocks of 2d rows and columns.
CTN_INLINE void FN(conv_turn)(const float *from, int64_t ld, int64_t rows, float *out) {
	vf v[CTN_LANES];
	for (int i = 0; i < CTN_LANES; i++) v[i] = i < rows ? vload(from + i * ld) : (vf){};
#pragma GCC unroll 4
	for (int d = 1; d < CTN_LANES; d *= 2)
#pragma GCC unroll 16
		for (int i = 0; i < CTN_LANES; i++) {
			if (i & d) continue;
			vi lane = LANES, low = lane + (((lane & d) != 0) & (CTN_LANES - d));
			vf a = v[i], b = v[i + d];
			v[i] = __builtin_shuffle(a, b, low), v[i + d] = __builtin_shuffle(a, b, low + d);
		}
#pragma GCC unroll 16
	for (int i = 0; i < CTN_LANES; i++) vstore(out + i * PANEL, v[i]);
}
#undef LANES
#endif

// Panel `task` of the weight as the product reads it: taps x depth rows of PANEL columns, zeros past the last.
static int64_t FN(conv_pack_tasks)(const void *p) {
	const ctn_conv_args *g = p;
	return ctn_div_up(g->cols, PANEL) * g->at.kh * g->at.kw;
}
static void FN(conv_pack_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_conv_args *g = p;
	int64_t taps = g->at.kh * g->at.kw, tap = task % taps, j0 = task / taps * PANEL,
	        width = ctn_min(PANEL, g->cols - j0);
	float *out = g->packed + (j0 * taps + tap * PANEL) * g->depth;
	if (!g->transposed) {
		const float *from = g->weight + tap * g->tap_ld + j0;
		for (int64_t k = 0; k < g->depth; k++, from += g->weight_ld, out += PANEL) {
			vstore(out, vload_part(from, width));
			vstore(out + CTN_LANES, width > CTN_LANES ? vload_part(from + CTN_LANES, width - CTN_LANES) : (vf){});
		}
		return;
	}
	const float *from = g->weight + j0 * g->weight_ld +
	                    (g->at.stride_h == 1 && g->at.stride_w == 1 ? taps - 1 - tap : tap) * g->tap_ld;
#ifdef TURN
	int64_t ready = g->depth / CTN_LANES * CTN_LANES; // channels that fill vectors
	for (int64_t k = 0; k < ready; k += CTN_LANES)
		for (int64_t j = 0; j < PANEL; j += CTN_LANES)
			FN(conv_turn)(from + j * g->weight_ld + k, g->weight_ld, width - j, out + k * PANEL + j);
#else
	int64_t ready = 0;
#endif
	for (int64_t k0 = ready; k0 < g->depth; k0 += 32) { // a few channels at a time: what is written stays in the cache
		int64_t k1 = ctn_min(k0 + 32, g->depth);
		if (width < PANEL) memset(out + k0 * PANEL, 0, (size_t)((k1 - k0) * PANEL) * sizeof(float));
		for (int64_t j = 0; j < width; j++)
			for (int64_t k = k0; k < k1; k++) out[k * PANEL + j] = from[j * g->weight_ld + k];
	}
}

static int64_t FN(conv_tasks)(const void *p) {
	const ctn_conv_args *g = p;
	return ctn_div_up(g->at.n * (g->transposed ? g->at.h * g->at.w : g->at.ho * g->at.wo), g->block) *
	       ctn_div_up(g->cols, g->slice);
}
static void FN(conv_run)(const void *p, int64_t task, float *scratch) {
	const ctn_conv_args *g = p;
	int64_t taps = g->at.kh * g->at.kw, total = g->at.n * (g->transposed ? g->at.h * g->at.w : g->at.ho * g->at.wo);
	int64_t slices = ctn_div_up(g->cols, g->slice), part = task / slices, j0 = task % slices * g->slice,
	        j1 = ctn_min(j0 + g->slice, g->cols);
	int64_t begin = part * g->block, rows = ctn_min(g->block, total - begin);
	const ctn_gradient *grad = g->transposed ? &g->grad : 0;
	float *tile = scratch, *near = tile + CTN_CONV_TILE;
	int32_t *written = (int32_t *)(near + g->near), *self = written + g->block, *read = self + g->block, low, high;
	ctn_conv_rows(&g->at, g->transposed, begin, rows, g->block, written, read, &low, &high);
	for (int64_t r = 0; r < rows; r++) self[r] = (int32_t)r;
	float *stats = g->transposed ? g->sink.stats : g->stats;
	if (stats) stats += part * (g->transposed ? 2 * g->sink.stats_ld : 3 * g->stats_ld);
	for (int64_t c0 = 0; c0 < g->depth; c0 += g->chunk) {
		int64_t c = ctn_min(g->chunk, g->depth - c0);
		int first = c0 == 0, last = c0 + c == g->depth;
		FN(conv_job)
		job = {.read_ld = g->block,
		       .taps = taps,
		       .depth = c,
		       .low = low,
		       .near = near,
		       .near_ld = c,
		       .tap_step = g->depth * PANEL};
		const int32_t *table = read;
		if (g->mode == CTN_CONV_PLACE) {
			job.near = g->in.z + c0, job.near_ld = g->in.ld, job.low = 0;
		} else if (g->mode == CTN_CONV_GATHER) {
			job.taps = 1, job.depth = taps * c, job.near_ld = job.depth, job.low = 0;
			table = self;
			FN(conv_gather)(&g->in, grad, c0, c, low, high, read, &g->at, rows, g->block, near, job.near_ld,
			                near + g->block * taps * c + 16);
		} else FN(conv_bring)(&g->in, grad, low, high - low, c0, c, near, c);
		ctn_sink sink = g->sink;
		sink.accumulate = sink.accumulate || !first;
		if (!last) sink.last = 0;
		for (int64_t j = j0; j < j1; j += PANEL) {
			job.panel = g->packed + (j * taps * g->depth + c0 * PANEL);
			for (int64_t i = 0; i < rows; i += CTN_CONV_TILES * TILE_ROWS) { // a few tiles, then what becomes of them
				int64_t many = ctn_min(CTN_CONV_TILES * TILE_ROWS, rows - i);
				for (int64_t k = 0; k < many; k += TILE_ROWS) {
					job.read = table + i + k, job.rows = ctn_min(TILE_ROWS, many - k), job.out = tile + k * PANEL;
					FN(conv_dispatch)(&job, g->cols - j <= CTN_LANES);
				}
				for (int64_t h = 0; h < PANEL && j + h < g->cols; h += CTN_LANES)
					if (g->transposed)
						FN(conv_sink)(&sink, g->cols, tile + h, written + i, many, j + h, last ? stats : 0, i == 0);
					else FN(conv_store)(g, tile + h, written + i, many, j + h, first, last, stats, i == 0);
			}
		}
	}
}

// A tile of a gathered row that ends in another tap than it begins in, where the taps' rows do not lie one behind the
// other: row i of the gradient is channel i % c of tap i / c.
static void FN(weight_across)(const float *const *a, const int32_t *row, int64_t count, int64_t i, const float *b,
                              float *out, int64_t ld, int64_t tap_ld, int64_t c, int64_t valid, int64_t width,
                              int add) {
	float tile[TILE_ROWS * PANEL];
	FN(weight_dispatch)(a, row, count, i, b, tile, PANEL, valid, width, 0);
	for (int64_t r = 0; r < valid; r++) {
		float *o = out + (i + r) / c * tap_ld + (i + r) % c * ld;
		for (int64_t j = 0; j < width; j += CTN_LANES) {
			vf v = vload_part(tile + r * PANEL + j, width - j);
			vstore_part(o + j, add ? v + vload_part(o + j, width - j) : v, width - j);
		}
	}
}

// A task owns a split of the rows, and a block of input channels by output channels of the gradient.
static int64_t FN(conv_weight_tasks)(const void *p) {
	const ctn_conv_weight_args *g = p;
	return g->splits * ctn_div_up(g->depth, g->block_c) * ctn_div_up(g->cols, g->block_j);
}
static void FN(conv_weight_run)(const void *p, int64_t task, float *scratch) {
	const ctn_conv_weight_args *g = p;
	int64_t taps = g->at.kh * g->at.kw, total = g->at.n * g->at.ho * g->at.wo,
	        groups = ctn_div_up(total, CTN_CONV_ROWS);
	int64_t blocks_c = ctn_div_up(g->depth, g->block_c), blocks_j = ctn_div_up(g->cols, g->block_j);
	int64_t split = task / (blocks_c * blocks_j), c0 = task / blocks_j % blocks_c * g->block_c,
	        j0 = task % blocks_j * g->block_j;
	int64_t c = ctn_min(g->block_c, g->depth - c0), cols = ctn_min(g->block_j, g->cols - j0);
	int64_t begin = split * groups / g->splits * CTN_CONV_ROWS,
	        end = ctn_min((split + 1) * groups / g->splits * CTN_CONV_ROWS, total);
	int64_t ld = g->splits > 1 ? g->cols : g->weight_ld, tap_ld = g->splits > 1 ? g->depth * g->cols : g->tap_ld;
	float *out = g->splits > 1 ? g->partial + split * taps * g->depth * g->cols : g->dweight;
	int accumulate = g->splits == 1 && g->accumulate;

	float *dz = scratch, *near = dz + CTN_CONV_ROWS * (g->block_j + 32);
	const float **a = (const float **)(near + g->near);
	int32_t *row = (int32_t *)(a + CTN_CONV_ROWS), *read = row + CTN_CONV_ROWS;
	for (int64_t r0 = begin; r0 < end; r0 += CTN_CONV_ROWS) {
		int64_t rows = ctn_min(CTN_CONV_ROWS, end - r0),
		        near_ld = c + 16; // tiles read past the last channel, and drop it
		int32_t low, high;
		ctn_conv_rows(&g->at, 0, r0, rows, CTN_CONV_ROWS, 0, read, &low, &high);
		for (int64_t j = 0; j < cols; j += PANEL) {
			float *to = dz + j * CTN_CONV_ROWS;
			int64_t w = ctn_min(PANEL, cols - j);
			if (w < PANEL) memset(to, 0, (size_t)(rows * PANEL) * sizeof(float));
			gradient_rows(&g->grad, r0, rows, j0 + j, w, to, PANEL);
		}
		if (g->mode == CTN_CONV_GATHER) {
			near_ld = taps * c + 16;
			FN(conv_gather)(&g->in, 0, c0, c, low, high, read, &g->at, rows, CTN_CONV_ROWS, near, near_ld,
			                near + CTN_CONV_ROWS * near_ld);
		} else input_rows(&g->in, low, high - low, c0, c, near, near_ld);
		// A gathered row is one long tap.
		int64_t base = g->mode == CTN_CONV_GATHER ? 0 : low, steps = g->mode == CTN_CONV_GATHER ? 1 : taps,
		        depth = g->mode == CTN_CONV_GATHER ? taps * c : c;
		for (int64_t t = 0; t < steps; t++) {
			int64_t count = 0;
			for (int64_t r = 0; r < rows; r++) {
				int32_t i = g->mode == CTN_CONV_GATHER ? (int32_t)r : read[t * CTN_CONV_ROWS + r];
				if (i < 0) continue;
				a[count] = near + (i - base) * near_ld, row[count++] = (int32_t)r;
			}
			for (int64_t j = 0; j < cols; j += PANEL)
				for (int64_t i = 0; i < depth; i += TILE_ROWS) {
					int64_t valid = ctn_min(TILE_ROWS, depth - i), width = ctn_min(PANEL, cols - j);
					const float *b = dz + j * CTN_CONV_ROWS;
					int64_t tap = t, first = i; // whose row the tile's first one is
					if (i >= c) tap = i / c, first = i % c;
					float *o = out + tap * tap_ld + (c0 + first) * ld + j0 + j;
					if (first + valid <= c || tap_ld == c * ld)
						FN(weight_dispatch)(a, row, count, i, b, o, ld, valid, width, accumulate || r0 > begin);
					else
						FN(weight_across)(a, row, count, i, b, out + j0 + j, ld, tap_ld, c, valid, width,
						                  accumulate || r0 > begin);
				}
		}
	}
}

// Adds the splits in order. A task owns a row.
static int64_t FN(conv_reduce_tasks)(const void *p) {
	const ctn_conv_weight_args *g = p;
	return g->at.kh * g->at.kw * g->depth;
}
static void FN(conv_reduce_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_conv_weight_args *g = p;
	int64_t size = g->at.kh * g->at.kw * g->depth * g->cols;
	for (int64_t j = 0; j < g->cols; j += CTN_LANES) {
		int64_t n = ctn_min(CTN_LANES, g->cols - j);
		float *o = g->dweight + task / g->depth * g->tap_ld + task % g->depth * g->weight_ld + j;
		vf v = g->accumulate ? vload_part(o, n) : (vf){};
		for (int64_t s = 0; s < g->splits; s++) v += vload_part(g->partial + s * size + task * g->cols + j, n);
		vstore_part(o, v, n);
	}
}
#endif
