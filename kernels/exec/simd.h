// Vectors of CTN_LANES floats through GCC's vector extension, and the few functions of them that kernels need. Included
// once a level by levels.h; no include guard on purpose.
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef CTN_SIMD_TYPES
#define CTN_SIMD_TYPES
typedef float ctn_v8f __attribute__((vector_size(32)));
typedef int32_t ctn_v8i __attribute__((vector_size(32)));
#endif

#define vf FN(ctn_vf)
#define vi FN(ctn_vi)
typedef float vf __attribute__((vector_size(CTN_LANES * 4)));
typedef int32_t vi __attribute__((vector_size(CTN_LANES * 4)));

#define CTN_INLINE static inline __attribute__((always_inline, unused))
// For what goes through memory alone and is long: compiled once, not at every place that calls it.
#define CTN_ONCE static __attribute__((noinline, unused))

#define vload FN(ctn_vload)
#define vstore FN(ctn_vstore)
#define vset FN(ctn_vset)
#define vsum FN(ctn_vsum)
#define vmaxf FN(ctn_vmaxf)
#define vminf FN(ctn_vminf)
#define vselect FN(ctn_vselect)
#define vgreater FN(ctn_vgreater)
#define vload_part FN(ctn_vload_part)
#define vstore_part FN(ctn_vstore_part)
#define vexp FN(ctn_vexp)
#define vsigmoid FN(ctn_vsigmoid)
#define vtanh FN(ctn_vtanh)
#define vlog1p_exp_neg FN(ctn_vlog1p_exp_neg)
#define vrsqrt FN(ctn_vrsqrt)
#define vsqrt FN(ctn_vsqrt)

CTN_INLINE vf vload(const float *p) {
	vf v;
	memcpy(&v, p, sizeof v);
	return v;
}
CTN_INLINE void vstore(float *p, vf v) { memcpy(p, &v, sizeof v); }
CTN_INLINE vf vset(float x) { return x - (vf){}; }
// The first n lanes, the others zero; and the store of the first n lanes. Memory past them is not touched.
CTN_INLINE vf vload_part(const float *p, int64_t n) {
	if (n >= CTN_LANES) return vload(p);
#if defined(__AVX512F__) && CTN_LANES == 16
	return (vf)__builtin_ia32_loadups512_mask(p, (vf){}, (uint16_t)((1 << n) - 1));
#elif defined(__AVX2__)
	vf v = {};
	for (int i = 0; i < CTN_LANES && i < n; i += 8) {
		ctn_v8i mask = (int32_t)(n - i) > (ctn_v8i){0, 1, 2, 3, 4, 5, 6, 7};
		ctn_v8f part = __builtin_ia32_maskloadps256((const ctn_v8f *)(p + i), mask);
		memcpy((float *)&v + i, &part, sizeof part);
	}
	return v;
#else
	vf v = {};
	for (int64_t i = 0; i < n; i++) v[i] = p[i];
	return v;
#endif
}
CTN_INLINE void vstore_part(float *p, vf v, int64_t n) {
	if (n >= CTN_LANES) {
		vstore(p, v);
		return;
	}
#if defined(__AVX512F__) && CTN_LANES == 16
	__builtin_ia32_storeups512_mask(p, v, (uint16_t)((1 << n) - 1));
#elif defined(__AVX2__)
	for (int i = 0; i < CTN_LANES && i < n; i += 8) {
		ctn_v8i mask = (int32_t)(n - i) > (ctn_v8i){0, 1, 2, 3, 4, 5, 6, 7};
		ctn_v8f part;
		memcpy(&part, (const float *)&v + i, sizeof part);
		__builtin_ia32_maskstoreps256((ctn_v8f *)(p + i), mask, part);
	}
#else
	for (int64_t i = 0; i < n; i++) p[i] = v[i];
#endif
}

// The sum of the lanes, in a fixed order: halves are added until one is left.
CTN_INLINE float vsum(vf v) {
	float a[CTN_LANES];
	memcpy(a, &v, sizeof a);
	for (int half = CTN_LANES / 2; half; half /= 2)
		for (int i = 0; i < half; i++) a[i] += a[i + half];
	return a[0];
}
CTN_INLINE vf vselect(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

// Returns f of the halves x[i] and y[i] of a and b, one after the other. GCC would compare vectors of two registers
// number by number, which is slow and takes long to compile.
#undef CTN_BY_HALVES
#if defined(__AVX2__) && !defined(__AVX512F__) && CTN_LANES == 16
#define CTN_BY_HALVES(type, a, b, f) \
	ctn_v8f x[2], y[2]; \
	memcpy(x, &a, sizeof x), memcpy(y, &b, sizeof y); \
	for (int i = 0; i < 2; i++) x[i] = (ctn_v8f)(f); \
	type both; \
	memcpy(&both, x, sizeof both); \
	return both;
#endif

// Where a > b; a comparison with a NaN is false.
CTN_INLINE vi vgreater(vf a, vf b) {
#ifdef CTN_BY_HALVES
	CTN_BY_HALVES(vi, a, b, x[i] > y[i])
#else
	return a > b;
#endif
}
// a > b ? a : b and a < b ? a : b, so the second argument when one of them is not a number.
CTN_INLINE vf vmaxf(vf a, vf b) {
#if defined(__AVX512F__) && CTN_LANES == 16
	return (vf)__builtin_ia32_maxps512_mask(a, b, (vf){}, 0xffff, 4);
#elif defined(__AVX__) && CTN_LANES == 8
	return (vf)__builtin_ia32_maxps256(a, b);
#elif defined(CTN_BY_HALVES)
	CTN_BY_HALVES(vf, a, b, __builtin_ia32_maxps256(x[i], y[i]))
#else
	return vselect(a > b, a, b);
#endif
}
CTN_INLINE vf vminf(vf a, vf b) {
#if defined(__AVX512F__) && CTN_LANES == 16
	return (vf)__builtin_ia32_minps512_mask(a, b, (vf){}, 0xffff, 4);
#elif defined(__AVX__) && CTN_LANES == 8
	return (vf)__builtin_ia32_minps256(a, b);
#elif defined(CTN_BY_HALVES)
	CTN_BY_HALVES(vf, a, b, __builtin_ia32_minps256(x[i], y[i]))
#else
	return vselect(a < b, a, b);
#endif
}
CTN_INLINE vf vsqrt(vf v) {
	for (int i = 0; i < CTN_LANES; i++) v[i] = __builtin_sqrtf(v[i]);
	return v;
}

// 1/sqrt(x) for normal x: the exponent is halved by an integer trick, three Newton steps give about 1 ulp.
CTN_INLINE vf vrsqrt(vf x) {
	vf y = (vf)(0x5f3759df - ((vi)x >> 1));
	for (int i = 0; i < 3; i++) y = y * (1.5f - 0.5f * x * y * y);
	return y;
}

// e^x by reduction to |r| <= ln2/2 and a polynomial of degree 6 (Cephes expf coefficients); about 1 ulp; saturates
// outside [-87, 88].
CTN_INLINE vf vexp(vf x) {
	x = vselect(vgreater(x, vset(88.0f)), vset(88.0f), x);
	x = vselect(vgreater(vset(-87.0f), x), vset(-87.0f), x);
	vf t = x * 1.44269504088896341f + 12582912.0f; // adding 1.5 * 2^23 rounds to an integer in the low bits
	vf n = t - 12582912.0f;
	vf r = x - n * 0.693359375f;
	r = r + n * 2.12194440e-4f;
	vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	p = p * (r * r) + r + 1.0f;
	vi e = ((vi)t - 0x4B400000 + 127) << 23;
	return p * (vf)e;
}
CTN_INLINE vf vsigmoid(vf x) { return 1.0f / (1.0f + vexp(-x)); }
CTN_INLINE vf vtanh(vf x) {
	// Near zero 1 - 2/(1+e^2x) cancels; there an odd polynomial (Cephes tanhf) is exact to the last bits.
	vf s = x * x;
	vf p = s * -5.70498872745e-3f + 2.06390887954e-2f;
	p = p * s + -5.37397155531e-2f;
	p = p * s + 1.33314422036e-1f;
	p = p * s + -3.33332819422e-1f;
	vf small = p * s * x + x;
	vf large = 1.0f - 2.0f / (1.0f + vexp(x * 2.0f));
	return vselect(vgreater(vset(0.390625f), s), small, large);
}
// log(1 + e^-|x|), the part of the logistic loss that is not linear.
CTN_INLINE vf vlog1p_exp_neg(vf x) {
	vf a = vselect(vgreater(vset(0.0f), x), x, -x);
	vf e = vexp(a), u = 2.0f + e; // log(1+e) = 2 atanh(e/(2+e)), and e/(2+e) <= 1/3
	vf q = e / u, z = q * q;
	vf p = z * 0.0769230769f + 0.0909090909f;
	p = p * z + 0.1111111111f;
	p = p * z + 0.1428571429f;
	p = p * z + 0.2f;
	p = p * z + 0.3333333333f;
	return 2.0f * (p * z * q + q);
}
