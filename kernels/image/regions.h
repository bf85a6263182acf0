// What regions.cu and regions_cpu.c share: a section of a batch as the loader's workers write it, and the arithmetic of
// a pixel.
#ifndef CTN_REGIONS_H
#define CTN_REGIONS_H
#include "../exec/exec.h"

enum {
	CTN_REGION_TAPS = 16, // samples of a region that an output may be made of, along an axis
	CTN_REGION_TILE = 32, // pixels of an output's side that a block makes
	CTN_REGION_BLOCK = 256,
};

enum ctn_region_form { CTN_REGION_NONE, CTN_REGION_BYTES, CTN_REGION_FLOATS };

enum ctn_colour { CTN_COLOUR_NONE, CTN_BRIGHTNESS, CTN_CONTRAST, CTN_SATURATION };

// How outputs lie over the samples of a region along an axis: `length` pixels of the image, the first of them lo behind
// the first of sample 0, become `full` outputs, of which those from `at` on are wanted. A sample is `shrink` pixels of
// the image. Samples begin..end-1 of the region are used, even where the filter reaches further. Outputs beside `full`
// are black.
typedef struct ctn_span {
	int64_t lo, length, full, at;
	int32_t begin, end;
} ctn_span;

// What becomes of an image.
typedef struct ctn_draw {
	int64_t region; // where its region begins: bytes from the section's begin; [height, width, 3], dense
	int32_t form;   // ctn_region_form: no image, bytes, or floats from 0 to 255
	int32_t height, width;
	int32_t shrink, flip;
	int32_t colour[3]; // ctn_colour, in the order in which they are done
	float factor[3];
	int32_t cut[4]; // what is blanked: x0, y0, x1, y1
	ctn_span y, x;
} ctn_draw;

// How a section begins; its draws follow, then regions in no order.
typedef struct ctn_section {
	int32_t images, side; // of the outputs
	float weight;         // of an image in its mixture with another one
	int32_t unused;
} ctn_section;

CTN_FN const ctn_draw *ctn_draws(const ctn_section *s) { return (const ctn_draw *)(s + 1); }

typedef struct ctn_regions_args {
	const ctn_section *section;
	float *out;              // [images, side, side, 3]
	float *sums;             // GPU: brightness of tiles [images, tiles of size x size]; NULL: no contrast is changed
	int32_t size;            // the largest side
	int32_t mix;             // images are mixed, the first with the last and so on inwards
	int32_t cubic;           // the filter
	float scale[3], bias[3]; // out = scale[c] * value + bias[c], of values from 0 to 255
} ctn_regions_args;

// The weights of the samples that make output `at + i`, `stride` floats apart, and how many they are; 0 beside the box.
// Pillow's antialiasing filters (src/libImaging/Resample.c): distances are ratios of whole numbers, and the triangle's
// weights are whole until they are divided by their sum, so that they are the same bits everywhere.
CTN_FN int ctn_region_weights(const ctn_span *s, int64_t shrink, int cubic, int i, int *first, float *weight,
                              int stride) {
	const int64_t position = s->at + i;
	*first = s->begin;
	if (position < 0 || position >= s->full) return 0;
	const int64_t sample = 2 * s->full * shrink; // a distance of one sample, and of one that counts nothing more:
	const int64_t far = 2 * ctn_max(s->length, s->full * shrink), reach = (1 + cubic) * far;
	// sample k is k * sample + origin away from the middle of the output
	const int64_t origin = s->full * shrink - 2 * s->full * s->lo - (2 * position + 1) * s->length;
	int64_t low = -reach - origin, begin = low / sample + 1; // floor of the quotient, plus 1
	if (low < 0 && low % sample) begin--;
	begin = ctn_max(s->begin, ctn_min(begin, s->end - 1));
	int n = 0;
	if (cubic) {
		double sum = 0;
		for (int64_t k = begin; k < s->end && n < CTN_REGION_TAPS; k++, n++) {
			const int64_t distance = k * sample + origin;
			if (n && distance >= reach) break;
			const double x = (double)(distance < 0 ? -distance : distance) / (double)far;
			double w = 0;
			if (x < 1) w = (1.5 * x - 2.5) * x * x + 1;
			else if (x < 2) w = ((2.5 - 0.5 * x) * x - 4) * x + 2;
			weight[n * stride] = (float)w;
			sum += w;
		}
		if (sum <= 0) *weight = 1, sum = 1; // the nearest, where none is within reach
		for (int k = 0; k < n; k++) weight[k * stride] = (float)((double)weight[k * stride] / sum);
	} else {
		int64_t sum = 0;
		for (int64_t k = begin; k < s->end && n < CTN_REGION_TAPS; k++, n++) {
			const int64_t distance = k * sample + origin, w = far - (distance < 0 ? -distance : distance);
			if (n && w <= 0) break;
			weight[n * stride] = (float)w;
			sum += w;
		}
		if (sum <= 0) *weight = 1, sum = 1;
		for (int k = 0; k < n; k++) weight[k * stride] /= (float)sum;
	}
	*first = (int)begin;
	return n;
}

// The brightness of a pixel (ITU-R BT.601, as in Pillow).
CTN_FN float ctn_grey(const float *v) { return 0.299f * v[0] + 0.587f * v[1] + 0.114f * v[2]; }

CTN_FN float ctn_level(float v) { return v < 0.0f ? 0.0f : v > 255.0f ? 255.0f : v; }

// Moves a pixel's values away from a level by a factor, within 0..255.
CTN_FN void ctn_blend(float *v, float factor, float level) {
	const float rest = (1.0f - factor) * level;
	for (int c = 0; c < 3; c++) v[c] = ctn_level(factor * v[c] + rest);
}

// Changes a pixel's colours by the steps [from, 3) of a draw, up to that of contrast, whose number it returns; 3 if
// there is none.
CTN_FN int ctn_colours(const ctn_draw *d, int from, float *v) {
	for (; from < 3; from++) {
		if (d->colour[from] == CTN_CONTRAST) break;
		if (d->colour[from] == CTN_BRIGHTNESS) ctn_blend(v, d->factor[from], 0.0f);
		else if (d->colour[from] == CTN_SATURATION) ctn_blend(v, d->factor[from], ctn_grey(v));
	}
	return from;
}

// A pixel as a network gets it.
CTN_FN void ctn_normalise(const ctn_regions_args *g, const ctn_draw *d, int y, int x, float *v) {
	const int cut = x >= d->cut[0] && x < d->cut[2] && y >= d->cut[1] && y < d->cut[3];
	for (int c = 0; c < 3; c++) v[c] = cut ? 0.0f : g->scale[c] * v[c] + g->bias[c];
}

extern const ctn_kernel ctn_regions[];

#endif
