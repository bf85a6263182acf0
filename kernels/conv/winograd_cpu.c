// 3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3) (Lavin and Gray, CVPR 2016): 2x2 outputs from 4x4 inputs by 16
// products instead of 36. The transforms are sums and halves, so the error stays close to that of the direct way.
#ifndef CTN_LANES
#include "conv.h"
#define CTN_SELF "winograd_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_winograd_pack, winograd_pack)
CTN_TABLE(ctn_winograd, winograd)
CTN_TABLE(ctn_winograd_weight, winograd_weight)
CTN_TABLE(ctn_winograd_reduce, winograd_reduce)
#else
#include "tile.h"

// The weight transformed, G w G', as column panels: for each panel 16 blocks of depth x PANEL. A task owns 32 channels
// of a panel.
static int64_t FN(winograd_pack_tasks)(const void *p) {
	const ctn_conv_args *g = p;
	return ctn_div_up(g->cols, PANEL) * ctn_div_up(g->depth, CTN_WINOGRAD_PACK);
}
static void FN(winograd_pack_run)(const void *p, int64_t task, float *scratch) {
	const ctn_conv_args *g = p;
	int64_t blocks = ctn_div_up(g->depth, CTN_WINOGRAD_PACK), j0 = task / blocks * PANEL,
	        width = ctn_min(PANEL, g->cols - j0);
	int64_t k0 = task % blocks * CTN_WINOGRAD_PACK, depth = ctn_min(CTN_WINOGRAD_PACK, g->depth - k0),
	        step = CTN_WINOGRAD_PACK * PANEL;
	if (width < PANEL) memset(scratch, 0, (size_t)(9 * step) * sizeof(float));
	for (int64_t t = 0; t < 9; t++) {
		float *to = scratch + t * step;
		if (!g->transposed)
			for (int64_t k = 0; k < depth; k++)
				memcpy(to + k * PANEL, g->weight + t * g->tap_ld + (k0 + k) * g->weight_ld + j0,
				       (size_t)width * sizeof(float));
		else // turned round, and from rows to columns
			for (int64_t j = 0; j < width; j++)
				for (int64_t k = 0; k < depth; k++)
					to[k * PANEL + j] = g->weight[(8 - t) * g->tap_ld + (j0 + j) * g->weight_ld + k0 + k];
	}
	float *out = g->packed + (j0 * 16 * g->depth + k0 * PANEL);
	for (int64_t i = 0; i < depth * PANEL; i += CTN_LANES) {
		vf u[4][3];
		for (int x = 0; x < 3; x++) {
			vf a = vload(scratch + x * step + i), b = vload(scratch + (3 + x) * step + i),
			   c = vload(scratch + (6 + x) * step + i);
			u[0][x] = a, u[1][x] = 0.5f * (a + b + c), u[2][x] = 0.5f * (a - b + c), u[3][x] = c;
		}
		for (int y = 0; y < 4; y++) {
			vf a = u[y][0], b = u[y][1], c = u[y][2];
			float *o = out + y * 4 * g->depth * PANEL + i;
			vstore(o, a), vstore(o + g->depth * PANEL, 0.5f * (a + b + c));
			vstore(o + 2 * g->depth * PANEL, 0.5f * (a - b + c)), vstore(o + 3 * g->depth * PANEL, c);
		}
	}
}

// The tiles from `first` on: corner[t] is the pixel at the upper left of the 4x4 that a tile reads, which may lie
// outside the image, and inside[t] a bit for each of its rows and, from bit 4 on, of its columns that are in it;
// written[4 * t + position] the pixels that it writes, -1 outside. [*low, *high) are read.
static void FN(winograd_tiles)(const ctn_window *a, int transposed, int64_t first, int64_t tiles, int32_t *corner,
                               int32_t *inside, int32_t *written, int32_t *low, int32_t *high) {
	int64_t from_h = transposed ? a->ho : a->h, from_w = transposed ? a->wo : a->w, to_h = transposed ? a->h : a->ho,
	        to_w = transposed ? a->w : a->wo;
	int64_t pad_h = transposed ? 2 - a->pad_h : a->pad_h, pad_w = transposed ? 2 - a->pad_w : a->pad_w;
	int64_t across = ctn_div_up(to_w, 2), down = ctn_div_up(to_h, 2);
	int64_t n = first / (across * down), y0 = first / across % down * 2, x0 = first % across * 2;
	*low = INT32_MAX, *high = 0;
	for (int64_t t = 0; t < tiles; t++) {
		int64_t y = y0 - pad_h, x = x0 - pad_w, at = (n * from_h + y) * from_w + x, to = (n * to_h + y0) * to_w + x0;
		int rows = 0, columns = 0;
		for (int i = 0; i < 4; i++)
			rows |= (y + i >= 0 && y + i < from_h) << i, columns |= (x + i >= 0 && x + i < from_w) << i;
		corner[t] = (int32_t)at, inside[t] = rows | columns << 4;
		if (rows && columns) {
			int64_t up = __builtin_ctz((unsigned)rows), left = __builtin_ctz((unsigned)columns);
			int64_t bottom = 31 - __builtin_clz((unsigned)rows), right = 31 - __builtin_clz((unsigned)columns);
			*low = ctn_min(*low, (int32_t)(at + up * from_w + left));
			*high = ctn_max(*high, (int32_t)(at + bottom * from_w + right) + 1);
		}
		int32_t *w = written + 4 * t;
		w[0] = (int32_t)to, w[1] = x0 + 1 < to_w ? (int32_t)to + 1 : -1;
		w[2] = y0 + 1 < to_h ? (int32_t)(to + to_w) : -1,
		w[3] = y0 + 1 < to_h && x0 + 1 < to_w ? (int32_t)(to + to_w) + 1 : -1;
		if ((x0 += 2) < to_w) continue;
		x0 = 0;
		if ((y0 += 2) >= to_h) y0 = 0, n++;
	}
	if (*low > *high) *low = *high;
}

// B' d B of a tile's n channels: 16 rows of the products' left sides, `step` floats apart. near: pixel 0, ld floats a
// pixel, `width` pixels a row.
CTN_INLINE void FN(winograd_input)(const float *near, int64_t ld, int64_t width, int64_t corner, int inside, int64_t n,
                                   float *out, int64_t step) {
	const float *d[16];
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++) {
		int here = inside == 0xff || (inside >> (i / 4) & inside >> (4 + i % 4) & 1);
		d[i] = here ? near + (corner + i / 4 * width + i % 4) * ld : ctn_conv_zeros;
	}
	for (int64_t j = 0; j < n; j += CTN_LANES) {
		vf u[4][4];
#pragma GCC unroll 4
		for (int x = 0; x < 4; x++) {
			vf a = vload(d[x] + j), b = vload(d[4 + x] + j), c = vload(d[8 + x] + j), e = vload(d[12 + x] + j);
			u[0][x] = a - c, u[1][x] = b + c, u[2][x] = c - b, u[3][x] = b - e;
		}
#pragma GCC unroll 4
		for (int y = 0; y < 4; y++) {
			float *o = out + 4 * y * step + j;
			vstore(o, u[y][0] - u[y][2]), vstore(o + step, u[y][1] + u[y][2]), vstore(o + 2 * step, u[y][2] - u[y][1]),
			        vstore(o + 3 * step, u[y][1] - u[y][3]);
		}
	}
}

// A' m A: the four outputs of each tile, those inside the image one after the other. m: 16 blocks of `step` floats.
CTN_INLINE int64_t FN(winograd_output)(const float *m, int64_t step, int64_t tiles, const int32_t *written, float *out,
                                       int32_t *pixels) {
	int64_t count = 0;
	for (int64_t t = 0; t < tiles; t++) {
		vf u[2][4], z[4];
#pragma GCC unroll 4
		for (int x = 0; x < 4; x++) {
			const float *from = m + x * step + t * PANEL;
			vf b = vload(from + 4 * step), c = vload(from + 8 * step);
			u[0][x] = vload(from) + b + c, u[1][x] = b - c - vload(from + 12 * step);
		}
		for (int y = 0; y < 2; y++) z[2 * y] = u[y][0] + u[y][1] + u[y][2], z[2 * y + 1] = u[y][1] - u[y][2] - u[y][3];
		for (int i = 0; i < 4; i++) {
			if (written[4 * t + i] < 0) continue;
			vstore(out + count * PANEL, z[i]);
			pixels[count++] = written[4 * t + i];
		}
	}
	return count;
}

static int64_t FN(winograd_tasks)(const void *p) {
	const ctn_conv_args *g = p;
	int64_t to_h = g->transposed ? g->at.h : g->at.ho, to_w = g->transposed ? g->at.w : g->at.wo;
	return ctn_div_up(g->at.n * ctn_div_up(to_h, 2) * ctn_div_up(to_w, 2), g->block) * ctn_div_up(g->cols, g->slice);
}
static void FN(winograd_run)(const void *p, int64_t task, float *scratch) {
	const ctn_conv_args *g = p;
	int64_t to_h = g->transposed ? g->at.h : g->at.ho, to_w = g->transposed ? g->at.w : g->at.wo;
	int64_t total = g->at.n * ctn_div_up(to_h, 2) * ctn_div_up(to_w, 2), slices = ctn_div_up(g->cols, g->slice),
	        part = task / slices;
	int64_t j0 = task % slices * g->slice, j1 = ctn_min(j0 + g->slice, g->cols), begin = part * g->block,
	        tiles = ctn_min(g->block, total - begin);
	const ctn_gradient *grad = g->transposed ? &g->grad : 0;
	// Scratch: the products, for the slice's panels; the transformed input; the pixels near; outputs; tables.
	int64_t step = g->block * PANEL, ld = ctn_div_up(g->chunk, CTN_LANES) * CTN_LANES;
	float *m = scratch, *v = m + 16 * g->block * ctn_div_up(g->slice, PANEL) * PANEL, *near = v + 16 * g->block * ld,
	      *out = near + g->near;
	int32_t *corner = (int32_t *)(out + 4 * step), *inside = corner + g->block, *written = inside + g->block,
	        *pixels = written + 4 * g->block;
	int32_t *self = pixels + 4 * g->block, low, high;
	FN(winograd_tiles)(&g->at, g->transposed, begin, tiles, corner, inside, written, &low, &high);
	for (int64_t t = 0; t < tiles; t++) self[t] = (int32_t)t;
	for (int64_t c0 = 0; c0 < g->depth; c0 += g->chunk) {
		int64_t c = ctn_min(g->chunk, g->depth - c0);
		FN(conv_bring)(&g->in, grad, low, high - low, c0, c, near, ld);
		for (int64_t t = 0; t < tiles; t++)
			FN(winograd_input)(near, ld, g->transposed ? g->at.wo : g->at.w, corner[t] - low, inside[t], c, v + t * ld,
			                   g->block * ld);
		FN(conv_job) job = {.read_ld = 0, .taps = 1, .depth = c, .near_ld = ld, .add = c0 > 0};
		for (int64_t j = j0; j < j1; j += PANEL)
			for (int64_t x = 0; x < 16; x++) {
				job.panel = g->packed + ((j * 16 + x * PANEL) * g->depth + c0 * PANEL),
				job.near = v + x * g->block * ld;
				for (int64_t i = 0; i < tiles; i += TILE_ROWS) {
					job.read = self + i, job.rows = ctn_min(TILE_ROWS, tiles - i);
					job.out = m + (j - j0) * 16 * g->block + x * step + i * PANEL;
					FN(conv_dispatch)(&job, g->cols - j <= CTN_LANES);
				}
			}
	}
	for (int64_t j = j0; j < j1; j += CTN_LANES) {
		int64_t h = (j - j0) % PANEL,
		        rows = FN(winograd_output)(m + (j - j0 - h) * 16 * g->block + h, step, tiles, written, out, pixels);
		if (g->transposed)
			FN(conv_sink)(&g->sink, g->cols, out, pixels, rows, j,
			              g->sink.stats ? g->sink.stats + part * 2 * g->sink.stats_ld : 0, 1);
		else FN(conv_store)(g, out, pixels, rows, j, 1, 1, g->stats ? g->stats + part * 3 * g->stats_ld : 0, 1);
	}
}

// The gradient in the transformed weight, which is the sum over tiles of B' d B by A dz A', for a split of the tiles
// and a block of channels of both sides. The splits' sums go to `partial`, 16 blocks of depth x cols each.
static int64_t FN(winograd_weight_tasks)(const void *p) {
	const ctn_conv_weight_args *g = p;
	return g->splits * ctn_div_up(g->depth, CTN_CONV_DEPTH) * ctn_div_up(g->cols, CTN_CONV_COLS);
}
static void FN(winograd_weight_run)(const void *p, int64_t task, float *scratch) {
	const ctn_conv_weight_args *g = p;
	enum { TILES = CTN_WINOGRAD_TILES };
	int64_t total = g->at.n * ctn_div_up(g->at.ho, 2) * ctn_div_up(g->at.wo, 2), groups = ctn_div_up(total, TILES);
	int64_t blocks_c = ctn_div_up(g->depth, CTN_CONV_DEPTH), blocks_j = ctn_div_up(g->cols, CTN_CONV_COLS);
	int64_t split = task / (blocks_c * blocks_j), c0 = task / blocks_j % blocks_c * CTN_CONV_DEPTH,
	        j0 = task % blocks_j * CTN_CONV_COLS;
	int64_t c = ctn_min(CTN_CONV_DEPTH, g->depth - c0), cols = ctn_min(CTN_CONV_COLS, g->cols - j0),
	        ld = CTN_CONV_DEPTH + 16;
	int64_t begin = split * groups / g->splits * TILES, end = ctn_min((split + 1) * groups / g->splits * TILES, total);
	// Scratch: both sides transformed, the right one in panels; the pixels near; a row; tables.
	float *v = scratch, *dm = v + 16 * TILES * ld, *near = dm + 16 * TILES * CTN_CONV_COLS, *row = near + g->near;
	const float **a = (const float **)(row + 4 * PANEL);
	int32_t *corner = (int32_t *)(a + TILES), *inside = corner + TILES, *written = inside + TILES,
	        *self = written + 4 * TILES, low, high;
	for (int64_t t = 0; t < TILES; t++) self[t] = (int32_t)t;
	for (int64_t t0 = begin; t0 < end; t0 += TILES) {
		int64_t tiles = ctn_min(TILES, end - t0);
		FN(winograd_tiles)(&g->at, 0, t0, tiles, corner, inside, written, &low, &high);
		input_rows(&g->in, low, high - low, c0, c, near, CTN_CONV_DEPTH);
		for (int64_t t = 0; t < tiles; t++)
			FN(winograd_input)(near, CTN_CONV_DEPTH, g->at.w, corner[t] - low, inside[t], c, v + t * ld, TILES * ld);
		for (int64_t j = 0; j < cols; j += PANEL)
			for (int64_t t = 0; t < tiles; t++) {
				for (int64_t i = 0; i < 4; i++) {
					int64_t w = ctn_min(PANEL, cols - j);
					float *to = row + i * PANEL;
					if (w < PANEL || written[4 * t + i] < 0) memset(to, 0, PANEL * sizeof(float));
					if (written[4 * t + i] >= 0) gradient_row(&g->grad, written[4 * t + i], j0 + j, w, to);
				}
				for (int64_t h = 0; h < PANEL; h += CTN_LANES) {
					vf u[4][2];
					for (int x = 0; x < 2; x++) {
						vf y0 = vload(row + x * PANEL + h), y1 = vload(row + (2 + x) * PANEL + h);
						u[0][x] = y0, u[1][x] = y0 + y1, u[2][x] = y0 - y1, u[3][x] = -y1;
					}
					for (int y = 0; y < 4; y++) {
						float *o = dm + (j * 16 + 4 * y * PANEL) * TILES + t * PANEL + h;
						vstore(o, u[y][0]), vstore(o + PANEL * TILES, u[y][0] + u[y][1]);
						vstore(o + 2 * PANEL * TILES, u[y][0] - u[y][1]), vstore(o + 3 * PANEL * TILES, -u[y][1]);
					}
				}
			}
		for (int64_t x = 0; x < 16; x++) {
			for (int64_t t = 0; t < tiles; t++) a[t] = v + (x * TILES + t) * ld;
			for (int64_t j = 0; j < cols; j += PANEL)
				for (int64_t i = 0; i < c; i += TILE_ROWS) {
					float *o = g->partial + ((split * 16 + x) * g->depth + c0 + i) * g->cols + j0 + j;
					FN(weight_dispatch)(a, self, tiles, i, dm + (j * 16 + x * PANEL) * TILES, o, g->cols,
					                    ctn_min(TILE_ROWS, c - i), ctn_min(PANEL, cols - j), t0 > begin);
				}
		}
	}
}

// The sum over the splits, in order, and its way back through the weight's transform: G' u G. A task owns a channel of
// the input.
static int64_t FN(winograd_reduce_tasks)(const void *p) { return ((const ctn_conv_weight_args *)p)->depth; }
static void FN(winograd_reduce_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_conv_weight_args *g = p;
	int64_t step = g->depth * g->cols;
	for (int64_t j = 0; j < g->cols; j += CTN_LANES) {
		int64_t n = ctn_min(CTN_LANES, g->cols - j);
		vf s[3][4];
		for (int x = 0; x < 4; x++) {
			vf u[4];
			for (int y = 0; y < 4; y++) {
				const float *from = g->partial + (4 * y + x) * step + task * g->cols + j;
				u[y] = (vf){};
				for (int64_t i = 0; i < g->splits; i++) u[y] += vload_part(from + i * 16 * step, n);
			}
			s[0][x] = u[0] + 0.5f * (u[1] + u[2]), s[1][x] = 0.5f * (u[1] - u[2]),
			s[2][x] = 0.5f * (u[1] + u[2]) + u[3];
		}
		for (int y = 0; y < 3; y++) {
			vf w[3] = {s[y][0] + 0.5f * (s[y][1] + s[y][2]), 0.5f * (s[y][1] - s[y][2]),
			           0.5f * (s[y][1] + s[y][2]) + s[y][3]};
			for (int x = 0; x < 3; x++) {
				float *o = g->dweight + (3 * y + x) * g->tap_ld + task * g->weight_ld + j;
				vstore_part(o, g->accumulate ? vload_part(o, n) + w[x] : w[x], n);
			}
		}
	}
}
#endif
