// The inner products of dense convolutions, and what becomes of their results. Width-generic: included by the package's
// C sources in their second half.
#include "../tensor/load.h"

#undef PANEL
#undef TILE_ROWS
#undef TILE_MIDDLE
#undef TILE_SMALL
#define PANEL (2 * CTN_LANES)
#if CTN_LANES == 16
#define TILE_ROWS 12 // 24 accumulators of the 32 registers of AVX-512
#define TILE_MIDDLE 8
#define TILE_SMALL 4
#else
#define TILE_ROWS 6 // 12 of 16
#define TILE_MIDDLE 4
#define TILE_SMALL 2
#endif

// A tile: `rows` rows by one or two vectors of columns, summed over the taps and `depth` channels each.
typedef struct FN(conv_job) {
	const int32_t *read; // the tile's first row in the table of taps
	const float *near;   // pixel `low` of what is read
	int64_t rows, read_ld, near_ld, low, taps, depth;
	const float *panel; // the panel's rows of the first tap
	int64_t tap_step;   // floats from a tap to the next in the panel
	float *out;         // rows of PANEL
	int add;            // to out
} FN(conv_job);

CTN_INLINE void FN(conv_tile)(const FN(conv_job) * t, const int rows, const int vectors) {
	vf acc[TILE_ROWS][2];
#pragma GCC unroll 12
	for (int r = 0; r < rows; r++) {
		acc[r][0] = t->add ? vload(t->out + r * PANEL) : (vf){};
		acc[r][1] = t->add && vectors == 2 ? vload(t->out + r * PANEL + CTN_LANES) : (vf){};
	}
	int64_t depth = t->depth;
	for (int64_t tap = 0; tap < t->taps; tap++) {
		const float *row[TILE_ROWS];
		const int32_t *read = t->read + tap * t->read_ld;
		int32_t any = -1;
#pragma GCC unroll 12
		for (int r = 0; r < rows; r++) {
			int32_t i = read[ctn_min(r, t->rows - 1)];
			any &= i;
			row[r] = i < 0 ? ctn_conv_zeros : t->near + (i - t->low) * t->near_ld;
		}
		if (any < 0) continue; // every row is outside
		const float *b = t->panel + tap * t->tap_step;
		for (int64_t k = 0; k < depth; k++, b += PANEL) {
			vf b0 = vload(b), b1 = vectors == 2 ? vload(b + CTN_LANES) : (vf){};
#pragma GCC unroll 12
			for (int r = 0; r < rows; r++) {
				vf x = vset(row[r][k]);
				acc[r][0] += x * b0;
				if (vectors == 2) acc[r][1] += x * b1;
			}
		}
	}
#pragma GCC unroll 12
	for (int r = 0; r < rows; r++) {
		vstore(t->out + r * PANEL, acc[r][0]);
		if (vectors == 2) vstore(t->out + r * PANEL + CTN_LANES, acc[r][1]);
	}
}
#define CONV_TILE(name, rows, vectors) \
	static __attribute__((noinline)) void FN(name)(const FN(conv_job) * t) { FN(conv_tile)(t, rows, vectors); }
CONV_TILE(conv_tile_large, TILE_ROWS, 2)
CONV_TILE(conv_tile_middle, TILE_MIDDLE, 2)
CONV_TILE(conv_tile_small, TILE_SMALL, 2)
CONV_TILE(conv_tile_large_narrow, TILE_ROWS, 1)
CONV_TILE(conv_tile_middle_narrow, TILE_MIDDLE, 1)
CONV_TILE(conv_tile_small_narrow, TILE_SMALL, 1)
#undef CONV_TILE

CTN_INLINE void FN(conv_dispatch)(const FN(conv_job) * t, int narrow) {
	if (t->rows > TILE_MIDDLE) narrow ? FN(conv_tile_large_narrow)(t) : FN(conv_tile_large)(t);
	else if (t->rows > TILE_SMALL) narrow ? FN(conv_tile_middle_narrow)(t) : FN(conv_tile_middle)(t);
	else narrow ? FN(conv_tile_small_narrow)(t) : FN(conv_tile_small)(t);
}

// Copies n channels of `count` pixels near, as they are read.
CTN_INLINE void FN(conv_bring)(const ctn_input *in, const ctn_gradient *grad, int64_t first, int64_t count, int64_t c0,
                               int64_t n, float *out, int64_t ld) {
	if (grad) gradient_rows(grad, first, count, c0, n, out, ld);
	else input_rows(in, first, count, c0, n, out, ld);
}

// Copies the taps of each row side by side. Where there are several, the pixels [low, high) are first brought to
// `band`, each once. Whole vectors are read and written: the next copy overwrites what is too much, and behind the last
// one there is room.
static __attribute__((noinline, unused)) void FN(conv_gather)(const ctn_input *in, const ctn_gradient *grad, int64_t c0,
                                                              int64_t n, int64_t low, int64_t high, const int32_t *read,
                                                              const ctn_window *at, int64_t rows, int64_t read_ld,
                                                              float *near, int64_t near_ld, float *band) {
	int64_t kh = at->kh, kw = at->kw;
	if (kh * kw == 1) {
		for (int64_t r = 0; r < rows; r++)
			if (read[r] < 0) memset(near + r * near_ld, 0, (size_t)n * sizeof(float));
			else FN(conv_bring)(in, grad, read[r], 1, c0, n, near + r * near_ld, near_ld);
		return;
	}
	FN(conv_bring)(in, grad, low, high - low, c0, n, band, n);
	for (int64_t r = 0; r < rows; r++)
		for (int64_t ky = 0; ky < kh; ky++) {
			const int32_t *tap = read + ky * kw * read_ld + r;
			float *to = near + r * near_ld + ky * kw * n;
			int together = tap[0] >= 0 && tap[(kw - 1) * read_ld] == tap[0] + kw - 1;
			int64_t width = together ? kw * n : n;
			for (int64_t kx = 0; kx < (together ? 1 : kw); kx++, to += n, tap += read_ld) {
				const float *from = *tap < 0 ? ctn_conv_zeros : band + (*tap - low) * n;
				for (int64_t j = 0; j < width; j += CTN_LANES) vstore(to + j, vload(from + j));
			}
		}
}

// What a tile's sums become. first, last: of the groups of channels that are summed; begin: the task's first rows.
CTN_INLINE void FN(conv_store)(const ctn_conv_args *g, const float *tile, const int32_t *written, int64_t rows,
                               int64_t j, int first, int last, float *stats, int begin) {
	int64_t n = ctn_min(CTN_LANES, g->cols - j);
	vf bias = first && g->bias ? vload_part(g->bias + j, n) : (vf){}, near = {}, sum[2] = {{}, {}};
	stats = last ? stats : 0;
	if (stats && !begin)
		near = vload_part(stats + j, n), sum[0] = vload_part(stats + g->stats_ld + j, n),
		sum[1] = vload_part(stats + 2 * g->stats_ld + j, n);
	for (int64_t r = 0; r < rows; r++) {
		float *o = g->out + written[r] * g->out_ld + j;
		vf v = vload(tile + r * PANEL) + bias;
		if (!first) v += vload_part(o, n);
		vstore_part(o, v, n);
		if (!stats) continue;
		if (begin && r == 0) near = v;
		v -= near;
		sum[0] += v;
		sum[1] += v * v;
	}
	if (!stats) return;
	vstore_part(stats + j, near, n), vstore_part(stats + g->stats_ld + j, sum[0], n),
	        vstore_part(stats + 2 * g->stats_ld + j, sum[1], n);
}
CTN_INLINE void FN(conv_sink)(const ctn_sink *s, int64_t cols, const float *tile, const int32_t *written, int64_t rows,
                              int64_t j, float *stats, int begin) {
	int64_t n = ctn_min(CTN_LANES, cols - j);
	vf sum[2] = {{}, {}};
	if (stats && !begin) sum[0] = vload_part(stats + j, n), sum[1] = vload_part(stats + s->stats_ld + j, n);
	sink_column(s, written, 0, rows, j, n, tile, PANEL, sum);
	if (stats) vstore_part(stats + j, sum[0], n), vstore_part(stats + s->stats_ld + j, sum[1], n);
}

// The weight's gradient: a tile is some channels of the input by two vectors of the output's, summed over rows.
CTN_INLINE void FN(weight_tile)(const float *const *a, const int32_t *row, int64_t count, int64_t c, const float *b,
                                const int rows, const int vectors, float *out, int64_t ld, int64_t valid, int64_t width,
                                int add) {
	vf acc[TILE_ROWS][2];
#pragma GCC unroll 12
	for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = (vf){};
	for (int64_t i = 0; i < count; i++) {
		const float *x = a[i] + c, *y = b + row[i] * PANEL;
		vf b0 = vload(y), b1 = vectors == 2 ? vload(y + CTN_LANES) : (vf){};
#pragma GCC unroll 12
		for (int r = 0; r < rows; r++) {
			vf v = vset(x[r]);
			acc[r][0] += v * b0;
			if (vectors == 2) acc[r][1] += v * b1;
		}
	}
#pragma GCC unroll 12
	for (int r = 0; r < rows; r++) {
		if (r >= valid) break;
#pragma GCC unroll 2
		for (int h = 0; h < vectors; h++) {
			float *o = out + r * ld + h * CTN_LANES;
			int64_t w = width - h * CTN_LANES;
			vf v = acc[r][h];
			if (add) v += vload_part(o, w);
			vstore_part(o, v, w);
		}
	}
}
#define WEIGHT_TILE(name, rows, vectors) \
	static __attribute__((noinline)) void FN(name)(const float *const *a, const int32_t *row, int64_t count, \
	                                               int64_t c, const float *b, float *out, int64_t ld, int64_t valid, \
	                                               int64_t width, int add) { \
		FN(weight_tile)(a, row, count, c, b, rows, vectors, out, ld, valid, width, add); \
	}
WEIGHT_TILE(weight_tile_large, TILE_ROWS, 2)
WEIGHT_TILE(weight_tile_middle, TILE_MIDDLE, 2)
WEIGHT_TILE(weight_tile_small, TILE_SMALL, 2)
WEIGHT_TILE(weight_tile_large_narrow, TILE_ROWS, 1)
WEIGHT_TILE(weight_tile_middle_narrow, TILE_MIDDLE, 1)
WEIGHT_TILE(weight_tile_small_narrow, TILE_SMALL, 1)
#undef WEIGHT_TILE
CTN_INLINE void FN(weight_dispatch)(const float *const *a, const int32_t *row, int64_t count, int64_t c, const float *b,
                                    float *out, int64_t ld, int64_t valid, int64_t width, int add) {
	int narrow = width <= CTN_LANES;
	if (valid > TILE_MIDDLE)
		(narrow ? FN(weight_tile_large_narrow) : FN(weight_tile_large))(a, row, count, c, b, out, ld, valid, width,
		                                                                add);
	else if (valid > TILE_SMALL)
		(narrow ? FN(weight_tile_middle_narrow) : FN(weight_tile_middle))(a, row, count, c, b, out, ld, valid, width,
		                                                                  add);
	else
		(narrow ? FN(weight_tile_small_narrow) : FN(weight_tile_small))(a, row, count, c, b, out, ld, valid, width,
		                                                                add);
}
