// Operations that go through tensors pixel by pixel. A task owns a block of pixels.
#ifndef CTN_LANES
#include "elementwise.h"
#include "../exec/philox.h"
#define CTN_SELF "elementwise_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_sum, sum)
CTN_TABLE(ctn_sum_backward, sum_backward)
CTN_TABLE(ctn_mix_gradient, mix_gradient)
CTN_TABLE(ctn_mix_reduce, mix_reduce)
CTN_TABLE(ctn_gate_gradient, gate_gradient)
CTN_TABLE(ctn_shuffle, shuffle)
CTN_TABLE(ctn_shuffle_backward, shuffle_backward)
CTN_TABLE(ctn_droppath, droppath)
CTN_TABLE(ctn_zero, zero)
#else
#include "../tensor/load.h"

// The factor of term t of a sum in a pixel.
CTN_INLINE float FN(sum_factor)(const ctn_sum_args *g, int64_t t, int64_t pixel) {
	float weight = g->weight[t] ? g->weight[t][pixel / g->image] : 1;
	return g->scalar[t] ? weight * *g->scalar[t] : weight;
}

static int64_t FN(sum_tasks)(const void *p) {
	const ctn_sum_args *g = p;
	return ctn_div_up(g->pixels, g->block);
}
static void FN(sum_run)(const void *p, int64_t task, float *scratch) {
	const ctn_sum_args *g = p;
	int64_t begin = task * g->block, end = ctn_min(begin + g->block, g->pixels), c = g->c;
	float *stats = g->stats ? g->stats + task * 3 * c : 0;
	for (int64_t first = begin; first < end; first += CTN_SUM_PIXELS) {
		int64_t count = ctn_min(CTN_SUM_PIXELS, end - first);
		float *out = g->out + first * g->out_ld, *sum = g->apart ? scratch + CTN_SUM_PIXELS * c : out;
		int64_t sum_ld = g->apart ? c : g->out_ld;
		for (int64_t t = 0; t < g->terms; t++) {
			float *to = t ? scratch : sum;
			int64_t ld = t ? c : sum_ld;
			input_rows(&g->in[t], first, count, 0, c, to, ld);
			for (int64_t i = 0; (t || g->weight[t] || g->scalar[t]) && i < count; i++) {
				float factor = FN(sum_factor)(g, t, first + i), *o = sum + i * sum_ld;
				for (int64_t j = 0; j < c; j += CTN_LANES) {
					vf v = vload_part(to + i * ld + j, c - j) * factor;
					vstore_part(o + j, t ? vload_part(o + j, c - j) + v : v, c - j);
				}
			}
		}
		for (int64_t i = 0; g->apart && i < count; i++)
			memcpy(out + i * g->out_ld, sum + i * c, (size_t)c * sizeof(float));
		for (int64_t j = 0; stats && j < c; j += CTN_LANES)
			sums_column(stats, c, j, ctn_min(CTN_LANES, c - j), out + j, g->out_ld, count, first == begin);
	}
}

static int64_t FN(sum_backward_tasks)(const void *p) { return FN(sum_tasks)(p); }
static void FN(sum_backward_run)(const void *p, int64_t task, float *scratch) {
	const ctn_sum_args *g = p;
	int64_t begin = task * g->block, end = ctn_min(begin + g->block, g->pixels), c = g->c,
	        ld = ctn_div_up(c, CTN_LANES) * CTN_LANES;
	float *base = scratch, *part = scratch + CTN_SUM_PIXELS * ld, share = 1.0f / (float)g->image;
	for (int64_t first = begin; first < end; first += CTN_SUM_PIXELS) {
		int64_t count = ctn_min(CTN_SUM_PIXELS, end - first);
		for (int64_t i = 0; i < count; i++) { // a copy: a sink may be the gradient's own buffer
			int64_t image = (first + i) / g->image * c;
			const float *grad = g->grad + (first + i) * g->grad_ld;
			for (int64_t j = 0; j < c; j += CTN_LANES) {
				vf v = vload_part(grad + j, c - j);
				if (g->gate) v *= vload_part(g->gate + image + j, c - j);
				if (g->mean) v += vload_part(g->mean + image + j, c - j) * share;
				vstore(base + i * ld + j, v);
			}
		}
		for (int64_t t = 0; t < g->terms; t++) {
			const ctn_sink *sink = &g->sink[t];
			if (!sink->d) continue;
			const float *from = base;
			if (g->weight[t] || g->scalar[t]) {
				for (int64_t i = 0; i < count; i++) {
					float factor = FN(sum_factor)(g, t, first + i);
					for (int64_t j = 0; j < ld; j += CTN_LANES)
						vstore(part + i * ld + j, vload(base + i * ld + j) * factor);
				}
				from = part;
			}
			float *stats = sink->stats ? sink->stats + task * 2 * sink->stats_ld : 0;
			for (int64_t j = 0; j < c; j += CTN_LANES)
				sink_part_column(sink, first, count, j, ctn_min(CTN_LANES, c - j), from + j, ld, stats, first == begin);
		}
	}
}

// The gradient in the scalars of a sum: a task leaves the sums over its pixels, which mix_reduce adds up in order.
static int64_t FN(mix_gradient_tasks)(const void *p) { return ((const ctn_mix_args *)p)->parts; }
static void FN(mix_gradient_run)(const void *p, int64_t task, float *scratch) {
	const ctn_mix_args *g = p;
	int64_t begin = task * g->block, end = ctn_min(begin + g->block, g->pixels), c = g->c;
	for (int64_t t = 0; t < g->terms; t++) {
		vf sum = {};
		for (int64_t first = begin; first < end; first += CTN_SUM_PIXELS) {
			int64_t count = ctn_min(CTN_SUM_PIXELS, end - first);
			input_rows(&g->in[t], first, count, 0, c, scratch, c);
			vf near = {};
			for (int64_t i = 0; i < count; i++) {
				const float *grad = g->grad + (first + i) * g->grad_ld, *in = scratch + i * c;
				for (int64_t j = 0; j < c; j += CTN_LANES)
					near += vload_part(in + j, c - j) * vload_part(grad + j, c - j);
			}
			sum += near;
		}
		g->partial[task * CTN_SUM_TERMS + t] = vsum(sum);
	}
}
static int64_t FN(mix_reduce_tasks)(const void *p) { return ((const ctn_mix_args *)p)->terms; }
static void FN(mix_reduce_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_mix_args *g = p;
	double sum = g->out[task];
	for (int64_t i = 0; i < g->parts; i++) sum += g->partial[i * CTN_SUM_TERMS + task];
	g->out[task] = (float)sum;
}

// The gradient in a gate: the sum over an image of the gradient times what the gate multiplies. A task owns some
// channels of an image.
static int64_t FN(gate_gradient_tasks)(const void *p) {
	const ctn_gate_args *g = p;
	return g->n * ctn_div_up(g->c, CTN_GATE_CHANNELS);
}
static void FN(gate_gradient_run)(const void *p, int64_t task, float *scratch) {
	const ctn_gate_args *g = p;
	int64_t blocks = ctn_div_up(g->c, CTN_GATE_CHANNELS), n = task / blocks, c0 = task % blocks * CTN_GATE_CHANNELS,
	        c = ctn_min(CTN_GATE_CHANNELS, g->c - c0);
	float *out = g->dgate + n * g->c + c0;
	memset(out, 0, (size_t)c * sizeof(float));
	for (int64_t i = n * g->image; i < (n + 1) * g->image; i++) {
		input_row(&g->in, i, c0, c, scratch);
		const float *grad = g->grad + i * g->grad_ld + c0;
		for (int64_t j = 0; j < c; j += CTN_LANES)
			vstore_part(out + j,
			            vload_part(out + j, c - j) + vload_part(scratch + j, c - j) * vload_part(grad + j, c - j),
			            c - j);
	}
}

static int64_t FN(shuffle_tasks)(const void *p) {
	const ctn_shuffle_args *g = p;
	return ctn_div_up(g->pixels, g->block);
}
static void FN(shuffle_run)(const void *p, int64_t task, float *scratch) {
	const ctn_shuffle_args *g = p;
	int64_t begin = task * g->block, end = ctn_min(begin + g->block, g->pixels), c = g->c, width = c / g->groups;
	for (int64_t i = begin; i < end; i++) {
		input_row(&g->in, i, 0, c, scratch);
		for (int64_t k = 0; k < width; k++)
			for (int64_t q = 0; q < g->groups; q++) g->out[i * c + k * g->groups + q] = scratch[q * width + k];
	}
}
static int64_t FN(shuffle_backward_tasks)(const void *p) { return FN(shuffle_tasks)(p); }
static void FN(shuffle_backward_run)(const void *p, int64_t task, float *scratch) {
	const ctn_shuffle_args *g = p;
	int64_t begin = task * g->block, end = ctn_min(begin + g->block, g->pixels), c = g->c, width = c / g->groups;
	float *stats = g->sink.stats ? g->sink.stats + task * 2 * g->sink.stats_ld : 0;
	for (int64_t i = begin; i < end; i++) {
		for (int64_t k = 0; k < width; k++)
			for (int64_t q = 0; q < g->groups; q++) scratch[q * width + k] = g->grad[i * c + k * g->groups + q];
		sink_row(&g->sink, i, 0, c, scratch, stats, i == begin);
	}
}

static int64_t FN(droppath_tasks)(const void *p) { return (void)p, 1; }
static void FN(droppath_run)(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	const ctn_droppath_args *g = p;
	float keep = g->rate ? 1 - (1 - g->keep) * *g->rate : g->keep;
	for (int64_t i = 0; i < g->n; i++) {
		uint32_t bits[4];
		ctn_philox(g->seed, g->stream, (uint32_t)*g->step, (uint64_t)i / 4, bits);
		g->out[i] = ctn_uniform(bits[i % 4]) < keep ? 1 / keep : 0;
	}
}

static int64_t FN(zero_tasks)(const void *p) { return ctn_div_up(((const ctn_zero_args *)p)->n, CTN_ZERO_BLOCK); }
static void FN(zero_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_zero_args *g = p;
	int64_t begin = task * CTN_ZERO_BLOCK;
	memset(g->out + begin, 0, (size_t)ctn_min(CTN_ZERO_BLOCK, g->n - begin) * sizeof(float));
}
#endif
