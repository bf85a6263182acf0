// Separable resampling of 8-bit RGB with weights of 16 bits: columns first, each row once, then rows, whose result is
// floats. All numbers but the last are whole, and the last is one product, so every instruction set has the same bits.
#ifndef CTN_LANES
#include "fixed.h"
#ifdef __x86_64__
#include <immintrin.h>
#endif
#define CTN_SELF "fixed_cpu.c"
#include "../exec/levels.h"
static void (*const table[CTN_LEVELS])(const ctn_fixed_args *) = {
        fixed_portable,
#if CTN_X86
        fixed_avx2,
#ifdef CTN_WITH_AVX2X16
        fixed_avx2x16,
#else
        NULL,
#endif
        fixed_avx512,
#endif
};
void ctn_fixed(int level, ctn_fixed_args a) { table[level](&a); }
#else

// The sum of one channel of a pixel, rounded as a row holds it.
CTN_INLINE int16_t FN(fixed_sum)(const uint8_t *p, const int16_t *weight, int64_t taps) {
	int32_t sum = 1 << (CTN_FIXED_WEIGHT - CTN_FIXED_ROW - 1);
	for (int64_t t = 0; t < taps; t++) sum += weight[t] * (int32_t)p[3 * t];
	return (int16_t)(sum >> (CTN_FIXED_WEIGHT - CTN_FIXED_ROW));
}

#ifdef __AVX2__
// Each channel's samples lie side by side in pairs, which are multiplied and added by one instruction. A row of 3 words
// is written as 4: the last one falls on the next pixel, which is written after it, or behind the row.
#define fixed_round FN(fixed_round)
CTN_INLINE __m128i fixed_round(__m128i sum) {
	sum = _mm_srai_epi32(_mm_add_epi32(sum, _mm_set1_epi32(1 << (CTN_FIXED_WEIGHT - CTN_FIXED_ROW - 1))),
	                     CTN_FIXED_WEIGHT - CTN_FIXED_ROW);
	return _mm_packs_epi32(sum, sum);
}

#define fixed_pair_order _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1)

// Up to two samples: two pixels at a time.
CTN_ONCE void FN(fixed_columns_2)(int16_t *out, const uint8_t *row, const ctn_fixed_args *a) {
	const __m256i order = _mm256_broadcastsi128_si256(fixed_pair_order);
	const int32_t *first = a->x.first;
	int64_t x = 0;
	for (; x + 2 <= a->x.n; x += 2) {
		__m128i p = _mm_loadu_si128((const __m128i *)(row + 3 * (first[x] - a->begin)));
		__m128i q = _mm_loadu_si128((const __m128i *)(row + 3 * (first[x + 1] - a->begin)));
		__m256i samples = _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(p), q, 1), order);
		__m256i sum = _mm256_madd_epi16(samples, _mm256_loadu_si256((const __m256i *)(a->wide + 8 * x)));
		sum = _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(1 << (CTN_FIXED_WEIGHT - CTN_FIXED_ROW - 1))),
		                        CTN_FIXED_WEIGHT - CTN_FIXED_ROW);
		sum = _mm256_packs_epi32(sum, sum);
		_mm_storel_epi64((__m128i *)(out + 3 * x), _mm256_castsi256_si128(sum));
		_mm_storel_epi64((__m128i *)(out + 3 * x + 3), _mm256_extracti128_si256(sum, 1));
	}
	for (; x < a->x.n; x++)
		for (int c = 0; c < 3; c++)
			out[3 * x + c] = FN(fixed_sum)(row + 3 * (first[x] - a->begin) + c, a->x.weight + 2 * x, 2);
}

// Up to four samples: a pixel at a time.
CTN_ONCE void FN(fixed_columns_4)(int16_t *out, const uint8_t *row, const ctn_fixed_args *a) {
	const __m256i order = _mm256_setr_m128i(fixed_pair_order,
	                                        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
	const int32_t *first = a->x.first;
	for (int64_t x = 0; x < a->x.n; x++) {
		__m256i p = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(row + 3 * (first[x] - a->begin))));
		__m256i sum = _mm256_madd_epi16(_mm256_shuffle_epi8(p, order),
		                                _mm256_loadu_si256((const __m256i *)(a->wide + 16 * x)));
		_mm_storel_epi64((__m128i *)(out + 3 * x),
		                 fixed_round(_mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1))));
	}
}

CTN_ONCE void FN(fixed_columns)(int16_t *out, const uint8_t *row, const ctn_fixed_args *a) {
	int64_t pairs = a->x.pairs;
	if (pairs == 1) {
		FN(fixed_columns_2)(out, row, a);
		return;
	}
	if (pairs == 2) {
		FN(fixed_columns_4)(out, row, a);
		return;
	}
	for (int64_t x = 0; x < a->x.n; x++) {
		const uint8_t *p = row + 3 * (a->x.first[x] - a->begin);
		const int16_t *weight = a->x.weight + 2 * pairs * x;
		__m128i sum = _mm_setzero_si128();
		for (int64_t t = 0; t < pairs; t++) {
			int32_t two;
			memcpy(&two, weight + 2 * t, sizeof two);
			__m128i samples = _mm_shuffle_epi8(_mm_loadl_epi64((const __m128i *)(p + 6 * t)), fixed_pair_order);
			sum = _mm_add_epi32(sum, _mm_madd_epi16(samples, _mm_set1_epi32(two)));
		}
		_mm_storel_epi64((__m128i *)(out + 3 * x), fixed_round(sum));
	}
}

// The weights of two or four samples as the multiplications above take them: each pair four times.
CTN_INLINE void FN(fixed_widen)(const ctn_fixed_args *a) {
	if (a->x.pairs > 2) return;
	for (int64_t i = 0; i < a->x.n * a->x.pairs; i++)
		for (int k = 0; k < 4; k++) memcpy(a->wide + 8 * i + 2 * k, a->x.weight + 2 * i, 2 * sizeof(int16_t));
}

// Two rows, or four where r2 is given.
CTN_INLINE int64_t FN(fixed_vectors)(float *dst, int64_t n, const int16_t *r0, const int16_t *r1, const int16_t *r2,
                                     const int16_t *r3, const int16_t *weight, const int32_t *zeros,
                                     const float *scales) {
	int32_t w[2] = {0, 0};
	memcpy(w, weight, (r2 ? 4 : 2) * sizeof(int16_t));
	const __m256i w0 = _mm256_set1_epi32(w[0]), w1 = _mm256_set1_epi32(w[1]);
	int64_t j = 0;
	for (; j + 16 <= n; j += 16) {
		__m256i a = _mm256_loadu_si256((const __m256i *)(r0 + j)), b = _mm256_loadu_si256((const __m256i *)(r1 + j));
		__m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), w0),
		        high = _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), w0);
		if (r2) {
			a = _mm256_loadu_si256((const __m256i *)(r2 + j)), b = _mm256_loadu_si256((const __m256i *)(r3 + j));
			low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), w1));
			high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), w1));
		}
		__m256i p = _mm256_permute2x128_si256(low, high, 0x20), q = _mm256_permute2x128_si256(low, high, 0x31);
		p = _mm256_sub_epi32(p, _mm256_loadu_si256((const __m256i *)(zeros + j)));
		q = _mm256_sub_epi32(q, _mm256_loadu_si256((const __m256i *)(zeros + j + 8)));
		_mm256_storeu_ps(dst + j, _mm256_mul_ps(_mm256_cvtepi32_ps(p), _mm256_loadu_ps(scales + j)));
		_mm256_storeu_ps(dst + j + 8, _mm256_mul_ps(_mm256_cvtepi32_ps(q), _mm256_loadu_ps(scales + j + 8)));
	}
	return j;
}
#else
CTN_INLINE void FN(fixed_columns)(int16_t *out, const uint8_t *row, const ctn_fixed_args *a) {
	int64_t taps = 2 * a->x.pairs;
	for (int64_t x = 0; x < a->x.n; x++)
		for (int c = 0; c < 3; c++)
			out[3 * x + c] = FN(fixed_sum)(row + 3 * (a->x.first[x] - a->begin) + c, a->x.weight + taps * x, taps);
}
#endif

// The row of the source that slot holds, made by the first output row that needs it.
CTN_INLINE const int16_t *FN(fixed_row)(const ctn_fixed_args *a, int64_t y) {
	int64_t slot = y % a->kept;
	int16_t *out = a->ring + slot * (3 * a->x.n + CTN_FIXED_PAD);
	if (a->held[slot] == y) return out;
	a->held[slot] = (int32_t)y;
	const uint8_t *row = a->src + y * a->src_stride;
	if (y * a->src_stride + 3 * a->width + CTN_FIXED_PAD > a->bytes) { // pixels are read with some bytes behind them
		memcpy(a->row, row, (size_t)(3 * a->width));
		row = a->row;
	}
	FN(fixed_columns)(out, row, a);
	return out;
}

// An output row of two rows, or of four where r2 is given.
CTN_INLINE void FN(fixed_rows)(float *dst, int64_t n, const int16_t *r0, const int16_t *r1, const int16_t *r2,
                               const int16_t *r3, const int16_t *weight, const int32_t *zeros, const float *scales) {
	int64_t j = 0;
#ifdef __AVX2__
	j = FN(fixed_vectors)(dst, n, r0, r1, r2, r3, weight, zeros, scales);
#endif
	for (; j < n; j++) {
		int32_t sum = weight[0] * r0[j] + weight[1] * r1[j] - zeros[j];
		if (r2) sum += weight[2] * r2[j] + weight[3] * r3[j];
		dst[j] = (float)sum * scales[j];
	}
}

static void FN(fixed)(const ctn_fixed_args *a) {
	int64_t n = 3 * a->x.n;
	for (int64_t j = 0; j < n; j++) a->zeros[j] = a->zero[j % 3], a->scales[j] = a->scale[j % 3];
	for (int64_t k = 0; k < a->kept; k++) a->held[k] = -1;
#ifdef __AVX2__
	FN(fixed_widen)(a);
#endif
	for (int64_t y = 0; y < a->y.n; y++) {
		int64_t first = a->y.first[y], pairs = a->y.pairs;
		const int16_t *weight = a->y.weight + 2 * pairs * y;
		float *dst = a->dst + y * n;
		const int16_t *r[4];
		if (pairs <= 2) {
			for (int64_t t = 0; t < 4; t++) r[t] = NULL;
			for (int64_t t = 0; t < 2 * pairs; t++) r[t] = weight[t] || !t ? FN(fixed_row)(a, first + t) : r[0];
			if (r[2]) FN(fixed_rows)(dst, n, r[0], r[1], r[2], r[3], weight, a->zeros, a->scales);
			else FN(fixed_rows)(dst, n, r[0], r[1], NULL, NULL, weight, a->zeros, a->scales);
			continue;
		}
		int32_t *sum = (int32_t *)dst; // of the same size: what is added up lies where it goes
		for (int64_t j = 0; j < n; j++) sum[j] = -a->zeros[j];
		for (int64_t t = 0; t < 2 * pairs; t++) {
			int32_t w = weight[t];
			if (!w) continue;
			const int16_t *row = FN(fixed_row)(a, first + t);
			for (int64_t j = 0; j < n; j++) sum[j] += w * row[j];
		}
		for (int64_t j = 0; j < n; j++) {
			float v = (float)sum[j] * a->scales[j];
			memcpy(dst + j, &v, sizeof v);
		}
	}
}
#endif
