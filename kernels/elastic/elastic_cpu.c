// Small kernels out of large ones: products with matrices of at most 25 x 25. A task owns some channels, of which it
// keeps all taps near, a row of channels each; rows are whole, with zeros behind the last channel.
#ifndef CTN_LANES
#include "elastic.h"
#define CTN_SELF "elastic_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_shrink, shrink)
CTN_TABLE(ctn_shrink_backward, shrink_backward)
CTN_TABLE(ctn_shrink_reduce, shrink_reduce)
#else

#undef CHANNELS
#undef TAPS
#undef TOGETHER
#define CHANNELS CTN_ELASTIC_CHANNELS
#define TAPS CTN_ELASTIC_TAPS
#define TOGETHER 5 // rows that are summed at a time: all of 25, half of 9

// A row of n channels from memory.
CTN_INLINE void FN(elastic_row)(const float *from, int64_t n, float *to) {
	for (int64_t j = 0; j < CHANNELS; j += CTN_LANES) vstore(to + j, n > j ? vload_part(from + j, n - j) : (vf){});
}

// out[a] = the sum over b of m[at_a[a] + at_b[b]] in[b]: a matrix, or its transpose, times rows of channels.
static void FN(elastic_product)(const float *m, const int32_t *at_a, int64_t rows, const int32_t *at_b, int64_t depth,
                                const float *in, float *out) {
	for (int64_t a = 0; a < rows; a += TOGETHER) {
		const float *from[TOGETHER];
		for (int r = 0; r < TOGETHER; r++) from[r] = m + at_a[ctn_min(a + r, rows - 1)];
		for (int64_t j = 0; j < CHANNELS; j += CTN_LANES) {
			vf sum[TOGETHER] = {{}, {}, {}, {}, {}};
			for (int64_t b = 0; b < depth; b++) {
				vf x = vload(in + b * CHANNELS + j);
#pragma GCC unroll 5
				for (int r = 0; r < TOGETHER; r++) sum[r] += x * from[r][at_b[b]];
			}
#pragma GCC unroll 5
			for (int r = 0; r < TOGETHER; r++)
				if (a + r < rows) vstore(out + (a + r) * CHANNELS + j, sum[r]);
		}
	}
}

// out[i, o] = the sum over channels of x[i] y[o]. turned: room for y with a row for every channel.
static void FN(elastic_outer)(const float *x, int64_t rows, const float *y, int64_t cols, float *turned, float *out) {
	for (int64_t o = 0; o < CHANNELS; o++)
		for (int64_t j = 0; j < CHANNELS; j++) turned[j * CHANNELS + o] = o < cols ? y[o * CHANNELS + j] : 0.0f;
	for (int64_t i = 0; i < rows; i += TOGETHER) {
		const float *from[TOGETHER];
		for (int r = 0; r < TOGETHER; r++) from[r] = x + ctn_min(i + r, rows - 1) * CHANNELS;
		for (int64_t o = 0; o < cols; o += CTN_LANES) {
			vf sum[TOGETHER] = {{}, {}, {}, {}, {}};
			for (int64_t j = 0; j < CHANNELS; j++) {
				vf g = vload(turned + j * CHANNELS + o);
#pragma GCC unroll 5
				for (int r = 0; r < TOGETHER; r++) sum[r] += g * from[r][j];
			}
#pragma GCC unroll 5
			for (int r = 0; r < TOGETHER; r++)
				if (i + r < rows) vstore_part(out + (i + r) * cols + o, sum[r], cols - o);
		}
	}
}

// Where step s finds its matrix's elements: row i at row[i], and the columns that are wanted.
CTN_INLINE void FN(elastic_places)(const ctn_shrink_args *g, int64_t s, int32_t *row, int32_t *column) {
	int64_t inputs = ctn_elastic_inputs(g, s), outputs = ctn_elastic_outputs(g, s);
	for (int64_t i = 0; i < inputs; i++) row[i] = (int32_t)(i * inputs);
	for (int64_t o = 0; o < outputs; o++) column[o] = (int32_t)ctn_elastic_column(g, s, o);
}

// The inputs of the first `steps` steps, TAPS rows apart, and with all of the steps the result behind them.
CTN_INLINE void FN(elastic_inputs)(const ctn_shrink_args *g, int64_t j, int64_t n, int64_t steps, float *x) {
	int32_t row[TAPS], column[TAPS];
	for (int64_t i = 0; i < ctn_elastic_inputs(g, 0); i++)
		FN(elastic_row)(g->weight + ctn_elastic_tap(g, i) * g->ld + j, n, x + i * CHANNELS);
	for (int64_t s = 0; s < steps; s++, x += TAPS * CHANNELS) {
		FN(elastic_places)(g, s, row, column);
		FN(elastic_product)
		(g->matrix[s], column, ctn_elastic_outputs(g, s), row, ctn_elastic_inputs(g, s), x, x + TAPS * CHANNELS);
	}
}

static int64_t FN(shrink_tasks)(const void *p) { return ctn_div_up(((const ctn_shrink_args *)p)->c, CHANNELS); }
static void FN(shrink_run)(const void *p, int64_t task, float *scratch) {
	const ctn_shrink_args *g = p;
	int64_t j = task * CHANNELS, n = ctn_min(CHANNELS, g->c - j), size = ctn_elastic_size(g, g->steps);
	if (g->steps) FN(elastic_inputs)(g, j, n, g->steps, scratch);
	const float *made = scratch + g->steps * TAPS * CHANNELS;
	for (int64_t t = 0; t < size * size; t++)
		memcpy(g->out + t * g->c + j, g->steps ? made + t * CHANNELS : g->weight + t * g->ld + j,
		       (size_t)n * sizeof(float));
}

static int64_t FN(shrink_backward_tasks)(const void *p) { return FN(shrink_tasks)(p); }
static void FN(shrink_backward_run)(const void *p, int64_t task, float *scratch) {
	const ctn_shrink_args *g = p;
	enum { STEP = TAPS * CHANNELS };
	int64_t j = task * CHANNELS, n = ctn_min(CHANNELS, g->c - j), size = ctn_elastic_size(g, g->steps);
	float *x = scratch, *dx = x + CTN_ELASTIC_STEPS * STEP, *turned = dx + 2 * STEP,
	      *partial = g->partial + (task + 1) * g->entries;
	if (g->steps) {
		int32_t row[TAPS], column[TAPS];
		FN(elastic_inputs)(g, j, n, g->steps - 1, x);
		float *dy = dx, *to = dx + STEP;
		for (int64_t t = 0; t < size * size; t++) FN(elastic_row)(g->dout + t * g->c + j, n, dy + t * CHANNELS);
		for (int64_t s = g->steps - 1; s >= 0; s--) {
			int64_t inputs = ctn_elastic_inputs(g, s), outputs = ctn_elastic_outputs(g, s);
			FN(elastic_places)(g, s, row, column);
			partial -= inputs * outputs;
			FN(elastic_outer)(x + s * STEP, inputs, dy, outputs, turned, partial);
			FN(elastic_product)(g->matrix[s], row, inputs, column, outputs, dy, to);
			float *swap = dy;
			dy = to, to = swap;
		}
		dx = dy;
		size = g->k - 2;
	}
	for (int64_t t = 0; t < size * size; t++) {
		float *o = g->dweight + ctn_elastic_tap(g, t) * g->ld + j;
		const float *from = g->steps ? dx + t * CHANNELS : g->dout + t * g->c + j;
		for (int64_t i = 0; i < n; i += CTN_LANES)
			vstore_part(o + i, vload_part(o + i, n - i) + vload_part(from + i, n - i), n - i);
	}
}

// Adds the blocks of channels in order. A task owns a row of a matrix.
static int64_t FN(shrink_reduce_tasks)(const void *p) {
	const ctn_shrink_args *g = p;
	int64_t rows = 0;
	for (int64_t s = 0; s < g->steps; s++) rows += ctn_elastic_inputs(g, s);
	return rows;
}
static void FN(shrink_reduce_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_shrink_args *g = p;
	int64_t s = 0;
	const float *from = g->partial;
	for (; task >= ctn_elastic_inputs(g, s); s++) {
		from += ctn_elastic_inputs(g, s) * ctn_elastic_outputs(g, s);
		task -= ctn_elastic_inputs(g, s);
	}
	int64_t inputs = ctn_elastic_inputs(g, s), outputs = ctn_elastic_outputs(g, s);
	float sum[TAPS + CTN_LANES];
	from += task * outputs;
	for (int64_t o = 0; o < outputs; o += CTN_LANES) {
		vf v = {};
		for (int64_t b = 0; b < ctn_div_up(g->c, CHANNELS); b++)
			v += vload_part(from + b * g->entries + o, outputs - o);
		vstore(sum + o, v);
	}
	for (int64_t o = 0; o < outputs; o++) g->dmatrix[s][task * inputs + ctn_elastic_column(g, s, o)] += sum[o];
}
#endif
