// What regions.cu does, on the processor: a task is an image, or two that are mixed.
#ifndef CTN_LANES
#include "regions.h"
#define CTN_SELF "regions_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_regions, regions)
#else

// Where the samples of an output's axis lie, in scratch.
typedef struct FN(region_axis) {
	float *weight; // [side, CTN_REGION_TAPS]
	int32_t *first, *taps;
} FN(region_axis);

CTN_INLINE FN(region_axis)
        FN(region_axis_of)(const ctn_regions_args *g, const ctn_span *s, const ctn_draw *d, int flip, float *room) {
	const int side = g->section->side;
	FN(region_axis) a = {room + 2 * side, (int32_t *)room, (int32_t *)room + side};
	for (int i = 0; i < side; i++)
		a.taps[i] = ctn_region_weights(s, d->shrink, g->cubic, flip ? side - 1 - i : i, &a.first[i],
		                               a.weight + i * CTN_REGION_TAPS, 1);
	return a;
}

// Makes image i normalised floats; without an image, zeros.
static void FN(region_image)(const ctn_regions_args *g, int64_t i, float *scratch) {
	const ctn_draw *d = &ctn_draws(g->section)[i];
	const int side = g->section->side;
	float *out = g->out + i * side * side * 3;
	if (d->form == CTN_REGION_NONE) {
		memset(out, 0, (size_t)side * (size_t)side * 3 * sizeof(float));
		return;
	}
	const FN(region_axis) y = FN(region_axis_of)(g, &d->y, d, 0, scratch);
	const FN(region_axis) x = FN(region_axis_of)(g, &d->x, d, d->flip, scratch + side * (CTN_REGION_TAPS + 2));
	const uint8_t *region = (const uint8_t *)g->section + d->region;
	double grey = 0;
	int contrast = 3;
	for (int r = 0; r < side; r++)
		for (int q = 0; q < side; q++) {
			float *v = out + 3 * (r * side + q);
			v[0] = v[1] = v[2] = 0;
			for (int j = 0; j < y.taps[r]; j++) {
				const int64_t at = 3 * ((int64_t)(y.first[r] + j) * d->width + x.first[q]);
				float row[3] = {0, 0, 0};
				for (int k = 0; k < x.taps[q]; k++)
					for (int c = 0; c < 3; c++) {
						const int64_t p = at + 3 * k + c;
						row[c] += x.weight[q * CTN_REGION_TAPS + k] *
						          (d->form == CTN_REGION_BYTES ? (float)region[p] : ((const float *)region)[p]);
					}
				for (int c = 0; c < 3; c++) v[c] += y.weight[r * CTN_REGION_TAPS + j] * row[c];
			}
			if (g->cubic)
				for (int c = 0; c < 3; c++) v[c] = ctn_level(v[c]);
			contrast = ctn_colours(d, 0, v);
			if (contrast < 3) grey += ctn_grey(v);
		}
	const float level = (float)(grey / ((double)side * side));
	for (int r = 0; r < side; r++)
		for (int q = 0; q < side; q++) {
			float *v = out + 3 * (r * side + q);
			if (contrast < 3) {
				ctn_blend(v, d->factor[contrast], level);
				ctn_colours(d, contrast + 1, v);
			}
			ctn_normalise(g, d, r, q, v);
		}
}

static int64_t FN(regions_tasks)(const void *args) {
	const ctn_regions_args *g = args;
	const int64_t n = g->section->images;
	return g->mix ? (n + 1) / 2 : n;
}

static void FN(regions_run)(const void *args, int64_t task, float *scratch) {
	const ctn_regions_args *g = args;
	const int64_t other = g->mix ? g->section->images - 1 - task : task;
	FN(region_image)(g, task, scratch);
	if (other == task) return;
	FN(region_image)(g, other, scratch);
	const int64_t n = 3 * (int64_t)g->section->side * g->section->side;
	const float weight = g->section->weight, rest = 1.0f - weight;
	float *a = g->out + task * n, *b = g->out + other * n;
	for (int64_t k = 0; k < n; k++) {
		const float u = a[k], v = b[k];
		a[k] = weight * u + rest * v;
		b[k] = weight * v + rest * u;
	}
}
#endif
