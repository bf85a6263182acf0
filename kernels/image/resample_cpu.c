// Separable resampling of 8-bit RGB: rows first, because they are contiguous, then columns, of which few rows are left.
#ifndef CTN_LANES
#include "resample.h"
#define CTN_SELF "resample_cpu.c"
#include "../exec/levels.h"
static void (*const table[CTN_LEVELS])(const ctn_resample_args *) = {
        resample_portable,
#if CTN_X86
        resample_avx2,
#ifdef CTN_WITH_AVX2X16
        resample_avx2x16,
#else
        NULL,
#endif
        resample_avx512,
#endif
};
void ctn_resample(int level, ctn_resample_args a) { table[level](&a); }
#else

typedef float FN(pixel) __attribute__((vector_size(16)));

CTN_INLINE FN(pixel) FN(load_pixel)(const float *p) {
	FN(pixel) v;
	memcpy(&v, p, sizeof v);
	return v;
}

// row[j] = sum over taps of weight[t] * src[t*stride + j]. Plain loops: GCC vectorises their conversion of bytes well,
// that of its own vector types badly.
static void FN(mix_rows)(float *restrict row, const uint8_t *restrict src, int64_t stride, int64_t n,
                         const float *weight, int64_t taps) {
	const uint8_t *s0 = src, *s1 = src + stride, *s2 = s1 + stride;
	float w0 = weight[0], w1 = taps > 1 ? weight[1] : 0, w2 = taps > 2 ? weight[2] : 0;
	if (taps >= 3)
		for (int64_t j = 0; j < n; j++) row[j] = w0 * (float)s0[j] + w1 * (float)s1[j] + w2 * (float)s2[j];
	else if (taps == 2)
		for (int64_t j = 0; j < n; j++) row[j] = w0 * (float)s0[j] + w1 * (float)s1[j];
	else
		for (int64_t j = 0; j < n; j++) row[j] = w0 * (float)s0[j];
	for (int64_t t = 3; t < taps; t += 2) {
		s0 = src + t * stride, s1 = s0 + stride;
		w0 = weight[t];
		if (t + 1 < taps) {
			w1 = weight[t + 1];
			for (int64_t j = 0; j < n; j++) row[j] += w0 * (float)s0[j] + w1 * (float)s1[j];
		} else
			for (int64_t j = 0; j < n; j++) row[j] += w0 * (float)s0[j];
	}
}

CTN_INLINE FN(pixel) FN(mix_pixels)(const float *row, const float *weight, int64_t taps) {
	FN(pixel) sum = {};
	for (int64_t t = 0; t < taps; t++) sum += FN(load_pixel)(row + 3 * t) * weight[t];
	return sum;
}

CTN_INLINE void FN(mix_columns)(float *dst, const ctn_resample_args *a, int64_t taps) {
	FN(pixel) scale = FN(load_pixel)(a->scale), bias = FN(load_pixel)(a->bias), v;
	const float *row = a->row, *weight = a->x.weight;
	const int32_t *first = a->x.first;
	int64_t last = a->x.n - 1;
	for (int64_t x = 0; x < last; x++) { // the fourth lane falls on the next pixel, which is written after it
		v = FN(mix_pixels)(row + 3 * (first[x] - a->begin), weight + x * taps, taps) * scale + bias;
		memcpy(dst + 3 * x, &v, 16);
	}
	v = FN(mix_pixels)(row + 3 * (first[last] - a->begin), weight + last * taps, taps) * scale + bias;
	memcpy(dst + 3 * last, &v, 12);
}

static void FN(resample)(const ctn_resample_args *a) {
	memset(a->row + 3 * a->width, 0, CTN_RESAMPLE_PAD * sizeof(float)); // the last pixel's fourth lane is read
	for (int64_t y = 0; y < a->y.n; y++) {
		FN(mix_rows)(a->row, a->src + a->y.first[y] * a->src_stride, a->src_stride, 3 * a->width,
		             a->y.weight + y * a->y.taps, a->y.taps);
		float *dst = a->dst + y * a->x.n * 3;
		switch (a->x.taps) { // the usual ones unrolled
		case 2: FN(mix_columns)(dst, a, 2); break;
		case 3: FN(mix_columns)(dst, a, 3); break;
		case 4: FN(mix_columns)(dst, a, 4); break;
		case 5: FN(mix_columns)(dst, a, 5); break;
		default: FN(mix_columns)(dst, a, a->x.taps);
		}
	}
}
#endif
