// 3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3) (Lavin and Gray, CVPR 2016): 2x2 outputs from 4x4 inputs by 16 products instead of 36. The
// transforms are sums and halves, so the error stays close to that of the direct way.
#ifndef CTN_LANES
#include "conv_cpu.h"
#define CTN_SELF "winograd_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_winograd_pack, winograd_pack)
CTN_TABLE(ctn_winograd, winograd)
#else
#include "tile.h"

// The weight transformed, G w G', as column panels: for each panel 16 blocks of depth x PANEL. A task owns 32 channels of a panel.
static int64_t FN(winograd_pack_tasks)(const void *p) {
	const ctn_conv_args *g = p;
	return ctn_div_up(g->cols, PANEL) * ctn_div_up(g->depth, CTN_WINOGRAD_PACK);
}
static void FN(winograd_pack_run)(const void *p, int64_t task, float *scratch) {
	const ctn_conv_args *g = p;
	int64_t blocks = ctn_div_up(g->depth, CTN_WINOGRAD_PACK), j0 = task / blocks * PANEL, width = ctn_min(PANEL, g->cols - j0);
	int64_t k0 = task % blocks * CTN_WINOGRAD_PACK, depth = ctn_min(CTN_WINOGRAD_PACK, g->depth - k0), step = CTN_WINOGRAD_PACK * PANEL;
	if (width < PANEL) memset(scratch, 0, (size_t)(9 * step) * sizeof(float));
	for (int64_t t = 0; t < 9; t++) {
		float *to = scratch + t * step;
		if (!g->transposed)
			for (int64_t k = 0; k < depth; k++) memcpy(to + k * PANEL, g->weight + (t * g->depth + k0 + k) * g->weight_ld + j0, (size_t)width * sizeof(float));
		else // turned round, and from rows to columns
			for (int64_t j = 0; j < width; j++)
				for (int64_t k = 0; k < depth; k++) to[k * PANEL + j] = g->weight[((8 - t) * g->cols + j0 + j) * g->weight_ld + k0 + k];
	}
	float *out = g->packed + (j0 * 16 * g->depth + k0 * PANEL);
	for (int64_t i = 0; i < depth * PANEL; i += CTN_LANES) {
		vf u[4][3];
		for (int x = 0; x < 3; x++) {
			vf a = vload(scratch + x * step + i), b = vload(scratch + (3 + x) * step + i), c = vload(scratch + (6 + x) * step + i);
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

// The pixels that tiles read, 16 each, read[position * block + tile], and write, written[4 * tile + position]; -1 outside.
static void FN(winograd_tiles)(const ctn_conv_args *g, int64_t first, int64_t tiles, int32_t *read, int32_t *written) {
	const ctn_window *a = &g->at;
	int64_t from_h = g->transposed ? a->ho : a->h, from_w = g->transposed ? a->wo : a->w, to_h = g->transposed ? a->h : a->ho, to_w = g->transposed ? a->w : a->wo;
	int64_t pad_h = g->transposed ? 2 - a->pad_h : a->pad_h, pad_w = g->transposed ? 2 - a->pad_w : a->pad_w;
	int64_t across = ctn_div_up(to_w, 2), down = ctn_div_up(to_h, 2);
	for (int64_t t = 0; t < tiles; t++) {
		int64_t n = (first + t) / (across * down), y0 = (first + t) / across % down * 2, x0 = (first + t) % across * 2;
		for (int64_t i = 0; i < 16; i++) {
			int64_t y = y0 - pad_h + i / 4, x = x0 - pad_w + i % 4;
			read[i * g->block + t] = y >= 0 && y < from_h && x >= 0 && x < from_w ? (int32_t)((n * from_h + y) * from_w + x) : -1;
		}
		for (int64_t i = 0; i < 4; i++) {
			int64_t y = y0 + i / 2, x = x0 + i % 2;
			written[4 * t + i] = y < to_h && x < to_w ? (int32_t)((n * to_h + y) * to_w + x) : -1;
		}
	}
}

// B' d B of a tile's n channels: 16 rows of the products' left sides, `step` floats apart.
CTN_INLINE void FN(winograd_input)(const float *const d[16], int64_t n, float *out, int64_t step) {
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
			vstore(o, u[y][0] - u[y][2]), vstore(o + step, u[y][1] + u[y][2]), vstore(o + 2 * step, u[y][2] - u[y][1]), vstore(o + 3 * step, u[y][1] - u[y][3]);
		}
	}
}

// A' m A: the four outputs of each tile, those inside the image one after the other. m: 16 blocks of `step` floats.
CTN_INLINE int64_t FN(winograd_output)(const float *m, int64_t step, int64_t tiles, const int32_t *written, float *out, int32_t *pixels) {
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
	int64_t total = g->at.n * ctn_div_up(to_h, 2) * ctn_div_up(to_w, 2), slices = ctn_div_up(g->cols, g->slice), part = task / slices;
	int64_t j0 = task % slices * g->slice, j1 = ctn_min(j0 + g->slice, g->cols), begin = part * g->block, tiles = ctn_min(g->block, total - begin);
	const ctn_gradient *grad = g->transposed ? &g->grad : 0;
	// Scratch: the products, for the slice's panels; the transformed input; the pixels near; outputs; tables.
	int64_t step = g->block * PANEL, ld = ctn_div_up(g->chunk, CTN_LANES) * CTN_LANES;
	float *m = scratch, *v = m + 16 * g->block * ctn_div_up(g->slice, PANEL) * PANEL, *near = v + 16 * g->block * ld, *out = near + g->near;
	int32_t *read = (int32_t *)(out + 4 * step), *written = read + 16 * g->block, *pixels = written + 4 * g->block, *self = pixels + 4 * g->block, low = INT32_MAX, high = 0;
	FN(winograd_tiles)(g, begin, tiles, read, written);
	for (int64_t t = 0; t < tiles; t++) self[t] = (int32_t)t;
	for (int64_t i = 0; i < 16; i++)
		for (int64_t t = 0; t < tiles; t++) {
			int32_t at = read[i * g->block + t];
			if (at < 0) continue;
			if (at < low) low = at;
			if (at >= high) high = at + 1;
		}
	for (int64_t c0 = 0; c0 < g->depth; c0 += g->chunk) {
		int64_t c = ctn_min(g->chunk, g->depth - c0);
		for (int64_t i = low; i < high; i++) FN(conv_bring)(&g->in, grad, i, c0, c, near + (i - low) * ld);
		for (int64_t t = 0; t < tiles; t++) {
			const float *d[16];
			for (int64_t i = 0; i < 16; i++) {
				int32_t at = read[i * g->block + t];
				d[i] = at < 0 ? ctn_conv_zeros : near + (at - low) * ld;
			}
			FN(winograd_input)(d, c, v + t * ld, g->block * ld);
		}
		FN(conv_job) job = {.read_ld = 0, .taps = 1, .depth = c, .near_ld = ld, .add = c0 > 0};
		for (int64_t j = j0; j < j1; j += PANEL)
			for (int64_t x = 0; x < 16; x++) {
				job.panel = g->packed + ((j * 16 + x * PANEL) * g->depth + c0 * PANEL), job.near = v + x * g->block * ld;
				for (int64_t i = 0; i < tiles; i += TILE_ROWS) {
					job.read = self + i, job.rows = ctn_min(TILE_ROWS, tiles - i);
					job.out = m + (j - j0) * 16 * g->block + x * step + i * PANEL;
					FN(conv_dispatch)(&job, g->cols - j <= CTN_LANES);
				}
			}
	}
	for (int64_t j = j0; j < j1; j += CTN_LANES) {
		int64_t h = (j - j0) % PANEL, rows = FN(winograd_output)(m + (j - j0 - h) * 16 * g->block + h, step, tiles, written, out, pixels);
		if (g->transposed) FN(conv_sink)(&g->sink, g->cols, out, pixels, rows, j, g->sink.stats ? g->sink.stats + part * 2 * g->sink.stats_ld : 0, 1);
		else FN(conv_store)(g, out, pixels, rows, j, 1, 1, g->stats ? g->stats + part * 3 * g->stats_ld : 0, 1);
	}
}
#endif
