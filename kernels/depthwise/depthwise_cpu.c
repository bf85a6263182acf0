// Depthwise convolutions. A task owns some rows of an image and some channels. It copies what it reads, a vector of
// channels a plane, with zeros around the image; everything after that runs along the rows of a plane.
#ifndef CTN_LANES
#include "depthwise.h"
#define CTN_SELF "depthwise_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_depthwise, depthwise)
CTN_TABLE(ctn_depthwise_backward, depthwise_backward)
CTN_TABLE(ctn_depthwise_reduce, depthwise_reduce)
#else
#include "../tensor/load.h"

#undef STRIP
#define STRIP CTN_DEPTHWISE_STRIP

// Row y of the input, in_ld columns from -pad_w on, as one row of each plane. `rows` is a plane's size.
CTN_INLINE void FN(dw_input_act)(const ctn_depthwise_args *g, int64_t n, int64_t y, int64_t c0, int64_t c, float *to,
                                 int64_t plane, int act) {
	const ctn_input *in = &g->in;
	const float *gate = in->gate ? in->gate + n * in->gate_ld + c0 : 0;
	int inside = y >= 0 && y < g->h;
	for (int64_t x = 0; x < g->in_ld; x++, to += CTN_LANES) {
		int64_t ix = x - g->pad_w;
		if (!inside || ix < 0 || ix >= g->w) {
			for (int64_t j = 0; j < c; j += CTN_LANES) vstore(to + j / CTN_LANES * plane, (vf){});
			continue;
		}
		const float *z = in->z + ((n * g->h + y) * g->w + ix) * in->ld + c0;
		int64_t j = 0;
		for (; j + CTN_LANES <= c; j += CTN_LANES)
			vstore(to + j / CTN_LANES * plane, input_part(in, z + j, gate ? gate + j : 0, c0 + j, CTN_LANES, act));
		if (j < c) vstore(to + j / CTN_LANES * plane, input_part(in, z + j, gate ? gate + j : 0, c0 + j, c - j, act));
	}
}
static void FN(dw_input)(const ctn_depthwise_args *g, int64_t n, int64_t y, int64_t c0, int64_t c, float *to,
                         int64_t plane) {
	switch (g->in.act) {
	case CTN_RELU: FN(dw_input_act)(g, n, y, c0, c, to, plane, CTN_RELU); break;
	case CTN_RELU6: FN(dw_input_act)(g, n, y, c0, c, to, plane, CTN_RELU6); break;
	case CTN_HSWISH: FN(dw_input_act)(g, n, y, c0, c, to, plane, CTN_HSWISH); break;
	default: FN(dw_input_act)(g, n, y, c0, c, to, plane, g->in.act);
	}
}

// Row y of the gradient in the output, out_cols columns from -out_left on.
static void FN(dw_gradient)(const ctn_depthwise_args *g, int64_t n, int64_t y, int64_t c0, int64_t c, float *to,
                            int64_t plane) {
	const ctn_gradient *d = &g->grad;
	int inside = y >= 0 && y < g->ho;
	for (int64_t x = 0; x < g->out_cols; x++, to += CTN_LANES) {
		int64_t ox = x - g->out_left, pixel = (n * g->ho + y) * g->wo + ox;
		for (int64_t j = 0; j < c; j += CTN_LANES) {
			int64_t m = c - j, k = c0 + j;
			vf v = {};
			if (inside && ox >= 0 && ox < g->wo) {
				v = vload_part(d->g + pixel * d->g_ld + k, m);
				if (d->p)
					v = vload_part(d->p + k, m) * v +
					    (vload_part(d->q + k, m) * vload_part(d->z + pixel * d->z_ld + k, m) + vload_part(d->r + k, m));
			}
			vstore(to + j / CTN_LANES * plane, v);
		}
	}
}

// The taps of a vector of channels, one after the other; turned round for the gradient in the input.
CTN_INLINE void FN(dw_weight)(const ctn_depthwise_args *g, int64_t c, int turned, float *to) {
	int64_t taps = g->k * g->k;
	for (int64_t t = 0; t < taps; t++)
		vstore(to + (turned ? taps - 1 - t : t) * CTN_LANES, vload_part(g->weight + t * g->c + c, g->c - c));
}

// A row of outputs, whole strips: out[x] = sum over taps of w * in[ky * dilation rows + x * stride + kx * dilation].
CTN_INLINE void FN(dw_stencil)(const float *in, int64_t ld, const float *w, int64_t count, const int64_t k,
                               const int64_t stride, const int64_t dilation, float *out) {
	for (int64_t x = 0; x < count; x += STRIP, in += STRIP * stride * CTN_LANES, out += STRIP * CTN_LANES) {
		vf acc[STRIP] = {{}, {}, {}, {}};
#pragma GCC unroll 7
		for (int64_t ky = 0; ky < k; ky++) {
			const float *row = in + ky * dilation * ld * CTN_LANES;
#pragma GCC unroll 7
			for (int64_t kx = 0; kx < k; kx++) {
				vf f = vload(w + (ky * k + kx) * CTN_LANES);
#pragma GCC unroll 4
				for (int i = 0; i < STRIP; i++) acc[i] += f * vload(row + (i * stride + kx * dilation) * CTN_LANES);
			}
		}
#pragma GCC unroll 4
		for (int i = 0; i < STRIP; i++) vstore(out + i * CTN_LANES, acc[i]);
	}
}
static void FN(dw_row)(const float *in, int64_t ld, const float *w, int64_t count, int64_t k, int64_t stride,
                       int64_t dilation, float *out) {
	if (dilation == 1 && stride == 1 && k == 3) FN(dw_stencil)(in, ld, w, count, 3, 1, 1, out);
	else if (dilation == 1 && stride == 1 && k == 5) FN(dw_stencil)(in, ld, w, count, 5, 1, 1, out);
	else if (dilation == 1 && stride == 1 && k == 7) FN(dw_stencil)(in, ld, w, count, 7, 1, 1, out);
	else if (dilation == 1 && stride == 2 && k == 3) FN(dw_stencil)(in, ld, w, count, 3, 2, 1, out);
	else if (dilation == 1 && stride == 2 && k == 5) FN(dw_stencil)(in, ld, w, count, 5, 2, 1, out);
	else if (dilation == 1 && stride == 2 && k == 7) FN(dw_stencil)(in, ld, w, count, 7, 2, 1, out);
	else FN(dw_stencil)(in, ld, w, count, k, stride, dilation, out);
}

static int64_t FN(depthwise_tasks)(const void *p) {
	const ctn_depthwise_args *g = p;
	return g->n * g->bands * ctn_div_up(g->c, g->channels);
}
static void FN(depthwise_run)(const void *p, int64_t task, float *scratch) {
	const ctn_depthwise_args *g = p;
	int64_t blocks = ctn_div_up(g->c, g->channels), part = task / blocks, c0 = task % blocks * g->channels,
	        c = ctn_min(g->channels, g->c - c0);
	int64_t n = part / g->bands, y0 = part % g->bands * g->band, y1 = ctn_min(y0 + g->band, g->ho);
	int64_t rows = (y1 - y0 - 1) * g->stride + (g->k - 1) * g->dilation + 1, ld = g->in_ld;
	float *line = scratch, *w = line + (g->wo + STRIP) * CTN_LANES, *planes = w + g->k * g->k * CTN_LANES;
	int64_t plane = rows * ld * CTN_LANES;
	for (int64_t r = 0; r < rows; r++)
		FN(dw_input)(g, n, y0 * g->stride - g->pad_h + r, c0, c, planes + r * ld * CTN_LANES, plane);
	for (int64_t j = 0; j < c; j += CTN_LANES, planes += plane) {
		int64_t m = ctn_min(CTN_LANES, c - j);
		vf near = {}, sum = {}, sum2 = {};
		FN(dw_weight)(g, c0 + j, 0, w);
		for (int64_t y = y0; y < y1; y++) {
			FN(dw_row)(planes + (y - y0) * g->stride * ld * CTN_LANES, ld, w, g->wo, g->k, g->stride, g->dilation,
			           line);
			float *out = g->out + (n * g->ho + y) * g->wo * g->out_ld + c0 + j;
			if (y == y0) near = vload(line);
			for (int64_t x = 0; x < g->wo; x++) {
				vf v = vload(line + x * CTN_LANES);
				vstore_part(out + x * g->out_ld, v, m);
				v -= near;
				sum += v;
				sum2 += v * v;
			}
		}
		if (g->stats) {
			float *s = g->stats + part * 3 * g->c + c0 + j;
			vstore_part(s, near, m), vstore_part(s + g->c, sum, m), vstore_part(s + 2 * g->c, sum2, m);
		}
	}
}

// One row of the gradient in the input where outputs do not lie side by side: for each phase of x modulo the stride,
// the taps that reach it.
static void FN(dw_phases)(const ctn_depthwise_args *g, const float *dz, int64_t first, int64_t y, const float *w,
                          float *line) {
	int64_t s = g->stride;
	for (int64_t phase = 0; phase < s && phase < g->w; phase++) {
		const float *at[CTN_DEPTHWISE_SIZE * CTN_DEPTHWISE_SIZE], *tap[CTN_DEPTHWISE_SIZE * CTN_DEPTHWISE_SIZE];
		int taps = 0;
		for (int64_t ky = 0; ky < g->k; ky++) {
			int64_t oy = y + g->pad_h - ky * g->dilation;
			if (oy < 0 || oy % s || oy / s >= g->ho) continue;
			for (int64_t kx = 0; kx < g->k; kx++) {
				int64_t ox = phase + g->pad_w - kx * g->dilation;
				if (ox % s) continue;
				at[taps] = dz + ((oy / s - first) * g->out_cols + g->out_left + ox / s) * CTN_LANES;
				tap[taps++] = w + (ky * g->k + kx) * CTN_LANES;
			}
		}
		for (int64_t x = phase; x < g->w; x += STRIP * s) {
			int64_t i0 = x / s * CTN_LANES;
			vf acc[STRIP] = {{}, {}, {}, {}};
			for (int t = 0; t < taps; t++) {
				vf f = vload(tap[t]);
#pragma GCC unroll 4
				for (int i = 0; i < STRIP; i++) acc[i] += f * vload(at[t] + i0 + i * CTN_LANES);
			}
#pragma GCC unroll 4
			for (int i = 0; i < STRIP; i++) vstore(line + (x + i * s) * CTN_LANES, acc[i]);
		}
	}
}

// Adds to sum[kx] the products of a row of the gradient and the row of the input that a tap's row meets.
CTN_INLINE void FN(dw_taps)(const float *in, const float *dz, int64_t count, const int64_t k, const int64_t stride,
                            const int64_t dilation, float *sum) {
	vf acc[CTN_DEPTHWISE_SIZE][2];
#pragma GCC unroll 7
	for (int64_t kx = 0; kx < k; kx++) acc[kx][0] = vload(sum + kx * CTN_LANES), acc[kx][1] = (vf){};
	for (int64_t x = 0; x < count; x += 2, in += 2 * stride * CTN_LANES, dz += 2 * CTN_LANES) {
		vf d0 = vload(dz), d1 = vload(dz + CTN_LANES);
#pragma GCC unroll 7
		for (int64_t kx = 0; kx < k; kx++) {
			acc[kx][0] += d0 * vload(in + kx * dilation * CTN_LANES);
			acc[kx][1] += d1 * vload(in + (stride + kx * dilation) * CTN_LANES);
		}
	}
#pragma GCC unroll 7
	for (int64_t kx = 0; kx < k; kx++) vstore(sum + kx * CTN_LANES, acc[kx][0] + acc[kx][1]);
}
static void FN(dw_tap_row)(const float *in, const float *dz, int64_t count, int64_t k, int64_t stride, int64_t dilation,
                           float *sum) {
	if (dilation == 1 && stride == 1 && k == 3) FN(dw_taps)(in, dz, count, 3, 1, 1, sum);
	else if (dilation == 1 && stride == 1 && k == 5) FN(dw_taps)(in, dz, count, 5, 1, 1, sum);
	else if (dilation == 1 && stride == 1 && k == 7) FN(dw_taps)(in, dz, count, 7, 1, 1, sum);
	else if (dilation == 1 && stride == 2 && k == 3) FN(dw_taps)(in, dz, count, 3, 2, 1, sum);
	else if (dilation == 1 && stride == 2 && k == 5) FN(dw_taps)(in, dz, count, 5, 2, 1, sum);
	else if (dilation == 1 && stride == 2 && k == 7) FN(dw_taps)(in, dz, count, 7, 2, 1, sum);
	else FN(dw_taps)(in, dz, count, k, stride, dilation, sum);
}

// The first row of the output that a row of the input has to do with, or less.
CTN_INLINE int64_t FN(dw_first)(const ctn_depthwise_args *g, int64_t y) {
	int64_t t = y + g->pad_h - (g->k - 1) * g->dilation;
	return t >= 0 ? t / g->stride : -((-t + g->stride - 1) / g->stride);
}

// Both gradients: a task owns rows of the input, and of the sums over taps the products with those rows.
static int64_t FN(depthwise_backward_tasks)(const void *p) { return FN(depthwise_tasks)(p); }
static void FN(depthwise_backward_run)(const void *p, int64_t task, float *scratch) {
	const ctn_depthwise_args *g = p;
	int64_t blocks = ctn_div_up(g->c, g->channels), part = task / blocks, c0 = task % blocks * g->channels,
	        c = ctn_min(g->channels, g->c - c0);
	int64_t n = part / g->bands, y0 = part % g->bands * g->band, y1 = ctn_min(y0 + g->band, g->h), taps = g->k * g->k;
	int64_t first = FN(dw_first)(g, y0), out_rows = (y1 - 1 + g->pad_h) / g->stride - first + 1;
	int64_t in_plane = (y1 - y0) * g->in_ld * CTN_LANES, out_plane = out_rows * g->out_cols * CTN_LANES;
	float *line = scratch, *w = line + (g->w + STRIP * g->stride) * CTN_LANES, *sum = w + taps * CTN_LANES,
	      *a = sum + taps * CTN_LANES;
	float *dz = a + ctn_div_up(c, CTN_LANES) * in_plane;
	for (int64_t y = y0; y < y1; y++) FN(dw_input)(g, n, y, c0, c, a + (y - y0) * g->in_ld * CTN_LANES, in_plane);
	for (int64_t r = 0; r < out_rows; r++)
		FN(dw_gradient)(g, n, first + r, c0, c, dz + r * g->out_cols * CTN_LANES, out_plane);
	int flat = g->stride == 1;
	for (int64_t j = 0; j < c; j += CTN_LANES, a += in_plane, dz += out_plane) {
		int64_t m = ctn_min(CTN_LANES, c - j);
		vf sums[2] = {{}, {}};
		FN(dw_weight)(g, c0 + j, flat, w);
		memset(sum, 0, (size_t)(taps * CTN_LANES) * sizeof(float));
		for (int64_t y = y0; y < y1; y++) {
			if (g->sink.d) {
				if (flat) {
					int64_t row = y + g->pad_h - (g->k - 1) * g->dilation - first,
					        column = g->out_left + g->pad_w - (g->k - 1) * g->dilation;
					FN(dw_row)(dz + (row * g->out_cols + column) * CTN_LANES, g->out_cols, w, g->w, g->k, 1,
					           g->dilation, line);
				} else FN(dw_phases)(g, dz, first, y, w, line);
				sink_column(&g->sink, 0, (n * g->h + y) * g->w, g->w, c0 + j, m, line, CTN_LANES, sums);
			}
			for (int64_t ky = 0; ky < g->k; ky++) {
				int64_t oy = y + g->pad_h - ky * g->dilation;
				if (oy < 0 || oy % g->stride || oy / g->stride >= g->ho) continue;
				FN(dw_tap_row)(a + (y - y0) * g->in_ld * CTN_LANES,
				               dz + ((oy / g->stride - first) * g->out_cols + g->out_left) * CTN_LANES, g->wo, g->k,
				               g->stride, g->dilation, sum + ky * g->k * CTN_LANES);
			}
		}
		if (g->sink.stats) {
			float *s = g->sink.stats + part * 2 * g->sink.stats_ld + c0 + j;
			vstore_part(s, sums[0], m), vstore_part(s + g->sink.stats_ld, sums[1], m);
		}
		for (int64_t t = 0; t < taps; t++)
			vstore_part(g->partial + (part * taps + t) * g->c + c0 + j, vload(sum + t * CTN_LANES), m);
	}
}

// Adds the parts of the weight's gradient in order. A task owns a tap.
static int64_t FN(depthwise_reduce_tasks)(const void *p) {
	const ctn_depthwise_args *g = p;
	return g->k * g->k;
}
static void FN(depthwise_reduce_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_depthwise_args *g = p;
	for (int64_t j = 0; j < g->c; j += CTN_LANES) {
		int64_t m = g->c - j;
		float *o = g->dweight + task * g->c + j;
		vf v = g->accumulate ? vload_part(o, m) : (vf){};
		for (int64_t i = 0; i < g->n * g->bands; i++)
			v += vload_part(g->partial + (i * g->k * g->k + task) * g->c + j, m);
		vstore_part(o, v, m);
	}
}
#endif
