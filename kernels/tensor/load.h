// Reading tensors through what stands before their consumer. Width-generic: included by a family's X_cpu.c in its
// second half, once a level.

#define vactivate FN(ctn_vactivate)
#define vslope FN(ctn_vslope)
#define vnormal FN(ctn_vnormal)
#define vdensity FN(ctn_vdensity)
#define input_part FN(ctn_input_part)
#define input_row FN(ctn_input_row)
#define gradient_row FN(ctn_gradient_row)
#define input_rows FN(ctn_input_rows)
#define gradient_rows FN(ctn_gradient_rows)
#define sink_part FN(ctn_sink_part)
#define sink_column FN(ctn_sink_column)
#define sums_column FN(ctn_sums_column)
#define sink_row FN(ctn_sink_row)
#define sink_part_column FN(ctn_sink_part_column)

// The standard normal distribution's Φ(u), and its density. Φ of a negative number is t exp(P(t) - u²/2) / 2 with t = 1
// / (1 + |u| / sqrt(8)) and P a polynomial (Numerical Recipes, erfcc), of a positive one 1 less that of its negative:
// off by 2e-7 at most.
CTN_INLINE vf vnormal(vf u) {
	vf zero = {};
	vf t = 1.0f / (vselect(vgreater(zero, u), -u, u) * 0.35355339059327376f + 1.0f);
	vf p = t * 0.17087277f - 0.82215223f;
	p = p * t + 1.48851587f;
	p = p * t - 1.13520398f;
	p = p * t + 0.27886807f;
	p = p * t - 0.18628806f;
	p = p * t + 0.09678418f;
	p = p * t + 0.37409196f;
	p = p * t + 1.00002368f;
	p = p * t - 1.26551223f;
	vf tail = 0.5f * t * vexp(p - 0.5f * u * u);
	return vselect(vgreater(u, zero), 1.0f - tail, tail);
}
CTN_INLINE vf vdensity(vf u) { return vexp(-0.5f * u * u) * 0.39894228040143268f; }

CTN_INLINE vf vactivate(vf u, int act) {
	vf zero = {};
	switch (act) { // a NaN stays one: vmaxf and vminf return their second argument then
	case CTN_RELU: return vmaxf(zero, u);
	case CTN_RELU6: return vminf(vset(6.0f), vmaxf(zero, u));
	case CTN_HSWISH: return u * vminf(vset(6.0f), vmaxf(zero, u + 3.0f)) * (1.0f / 6.0f);
	case CTN_HSIGMOID: return vminf(vset(6.0f), vmaxf(zero, u + 3.0f)) * (1.0f / 6.0f);
	case CTN_SWISH: return u * vsigmoid(u);
	case CTN_SIGMOID: return vsigmoid(u);
	case CTN_GELU: return u * vnormal(u);
	}
	return u;
}

// The activation's derivative; at a kink PyTorch's choice.
CTN_INLINE vf vslope(vf u, int act) {
	vf zero = {}, one = vset(1.0f);
	switch (act) {
	case CTN_RELU: return vselect(vgreater(u, zero), one, zero);
	case CTN_RELU6: return vselect(vgreater(u, zero) & vgreater(vset(6.0f), u), one, zero);
	case CTN_HSWISH:
		return vselect(vgreater(vset(-3.0f), u), zero,
		               vselect(vgreater(u, vset(3.0f)), one, u * (1.0f / 3.0f) + 0.5f));
	case CTN_HSIGMOID: return vselect(vgreater(u, vset(-3.0f)) & vgreater(vset(3.0f), u), vset(1.0f / 6.0f), zero);
	case CTN_SWISH: {
		vf s = vsigmoid(u);
		return s * (1.0f + u * (1.0f - s));
	}
	case CTN_SIGMOID: {
		vf s = vsigmoid(u);
		return s * (1.0f - s);
	}
	case CTN_GELU: return vnormal(u) + u * vdensity(u);
	}
	return one;
}

// n channels from c on of a pixel, n <= CTN_LANES; z points at the pixel's channel c, gate at its image's.
CTN_INLINE vf input_part(const ctn_input *in, const float *z, const float *gate, int64_t c, int64_t n, int act) {
	vf u = vload_part(z, n);
	if (in->scale) u = u * vload_part(in->scale + c, n) + vload_part(in->shift + c, n);
	u = vactivate(u, act);
	if (gate) u *= vload_part(gate, n);
	return u;
}

CTN_INLINE void FN(ctn_input_row_act)(const ctn_input *in, int64_t pixel, int64_t c0, int64_t n, float *out, int act) {
	const float *z = in->z + pixel * in->ld + c0;
	const float *gate = in->gate ? in->gate + pixel / in->image * in->gate_ld + c0 : 0;
	int64_t j = 0;
	for (; j + CTN_LANES <= n; j += CTN_LANES)
		vstore(out + j, input_part(in, z + j, gate ? gate + j : 0, c0 + j, CTN_LANES, act));
	if (j < n) vstore_part(out + j, input_part(in, z + j, gate ? gate + j : 0, c0 + j, n - j, act), n - j);
}

// Writes n channels from c0 on of the gradient in a pixel of z.
CTN_INLINE void gradient_row(const ctn_gradient *in, int64_t pixel, int64_t c0, int64_t n, float *out) {
	const float *g = in->g + pixel * in->g_ld + c0, *z = in->z + pixel * in->z_ld + c0;
	const float *p = in->p + c0, *q = in->q + c0, *r = in->r + c0;
	int64_t j = 0;
	if (!in->p) {
		for (; j < n; j += CTN_LANES) vstore_part(out + j, vload_part(g + j, n - j), n - j);
		return;
	}
	for (; j + CTN_LANES <= n; j += CTN_LANES)
		vstore(out + j, vload(p + j) * vload(g + j) + (vload(q + j) * vload(z + j) + vload(r + j)));
	if (j < n) {
		int64_t m = n - j;
		vstore_part(out + j,
		            vload_part(p + j, m) * vload_part(g + j, m) +
		                    (vload_part(q + j, m) * vload_part(z + j, m) + vload_part(r + j, m)),
		            m);
	}
}

// Writes one or two vectors of channels of `count` pixels from `first` on, `ld` floats apart: what does not change is
// kept in registers.
CTN_INLINE void FN(ctn_input_column)(const ctn_input *in, const float *z, const float *gate, int64_t count, int64_t c,
                                     int64_t n, float *out, int64_t ld, int act) {
	vf scale = vset(1.0f), shift = {}, by = vset(1.0f);
	int64_t z_ld = in->ld;
	int normed = in->scale != 0;
	if (normed) scale = vload_part(in->scale + c, n), shift = vload_part(in->shift + c, n);
	if (gate) by = vload_part(gate, n);
	for (int64_t i = 0; i < count; i++) {
		vf u = vload_part(z + i * z_ld, n);
		if (normed) u = u * scale + shift;
		u = vactivate(u, act);
		if (gate) u *= by;
		vstore_part(out + i * ld, u, n);
	}
}
CTN_INLINE void FN(ctn_input_rows_act)(const ctn_input *in, int64_t first, int64_t count, int64_t c0, int64_t n,
                                       float *out, int64_t ld, int act) {
	while (count > 0) { // the pixels of an image, which share a gate
		int64_t k = in->gate ? ctn_min(count, in->image - first % in->image) : count;
		const float *z = in->z + first * in->ld + c0,
		            *gate = in->gate ? in->gate + first / in->image * in->gate_ld + c0 : 0;
		if (n > 2 * CTN_LANES)
			for (int64_t i = 0; i < k; i++) FN(ctn_input_row_act)(in, first + i, c0, n, out + i * ld, act);
		else
			for (int64_t j = 0; j < n; j += CTN_LANES) {
				if (n - j >= CTN_LANES)
					FN(ctn_input_column)(in, z + j, gate ? gate + j : 0, k, c0 + j, CTN_LANES, out + j, ld, act);
				else FN(ctn_input_column)(in, z + j, gate ? gate + j : 0, k, c0 + j, n - j, out + j, ld, act);
			}
		first += k, count -= k, out += k * ld;
	}
}
// Writes n channels from c0 on of `count` pixels from `first` on as the consumer reads them, `ld` floats apart.
CTN_ONCE void input_rows(const ctn_input *in, int64_t first, int64_t count, int64_t c0, int64_t n, float *out,
                         int64_t ld) {
	switch (in->act) {
	case CTN_NONE: FN(ctn_input_rows_act)(in, first, count, c0, n, out, ld, CTN_NONE); break;
	case CTN_RELU: FN(ctn_input_rows_act)(in, first, count, c0, n, out, ld, CTN_RELU); break;
	case CTN_HSWISH: FN(ctn_input_rows_act)(in, first, count, c0, n, out, ld, CTN_HSWISH); break;
	default: FN(ctn_input_rows_act)(in, first, count, c0, n, out, ld, in->act);
	}
}
// The same for a pixel.
CTN_INLINE void input_row(const ctn_input *in, int64_t pixel, int64_t c0, int64_t n, float *out) {
	input_rows(in, pixel, 1, c0, n, out, 0);
}
CTN_INLINE void FN(ctn_gradient_column)(const ctn_gradient *in, int64_t first, int64_t count, int64_t c, int64_t n,
                                        float *out, int64_t ld) {
	const float *g = in->g + first * in->g_ld + c;
	if (!in->p) {
		for (int64_t i = 0; i < count; i++) vstore_part(out + i * ld, vload_part(g + i * in->g_ld, n), n);
		return;
	}
	const float *z = in->z + first * in->z_ld + c;
	vf p = vload_part(in->p + c, n), q = vload_part(in->q + c, n), r = vload_part(in->r + c, n);
	for (int64_t i = 0; i < count; i++)
		vstore_part(out + i * ld, p * vload_part(g + i * in->g_ld, n) + (q * vload_part(z + i * in->z_ld, n) + r), n);
}
// gradient_row for `count` pixels from `first` on, written `ld` floats apart.
CTN_ONCE void gradient_rows(const ctn_gradient *in, int64_t first, int64_t count, int64_t c0, int64_t n, float *out,
                            int64_t ld) {
	if (n > 2 * CTN_LANES) {
		for (int64_t i = 0; i < count; i++) gradient_row(in, first + i, c0, n, out + i * ld);
		return;
	}
	for (int64_t j = 0; j < n; j += CTN_LANES) {
		if (n - j >= CTN_LANES) FN(ctn_gradient_column)(in, first, count, c0 + j, CTN_LANES, out + j, ld);
		else FN(ctn_gradient_column)(in, first, count, c0 + j, n - j, out + j, ld);
	}
}

// Stores v, the gradient in n <= CTN_LANES channels from c on of a pixel, and adds what was stored and its product with
// zhat to sum[0], sum[1] when this is the last consumer of a normalised tensor.
CTN_INLINE void sink_part(const ctn_sink *s, int64_t pixel, int64_t c, int64_t n, vf v, vf sum[2]) {
	float *d = s->d + pixel * s->ld + c;
	if (s->accumulate) v += vload_part(d, n);
	if (s->last) {
		vf z = vload_part(s->of.z + pixel * s->of.ld + c, n), u = z;
		if (s->of.scale) u = z * vload_part(s->of.scale + c, n) + vload_part(s->of.shift + c, n);
		v *= vslope(u, s->of.act);
		if (s->stats) {
			sum[0] += v;
			sum[1] += v * ((z - vload_part(s->mean + c, n)) * vload_part(s->invstd + c, n));
		}
	}
	vstore_part(d, v, n);
}

// How many pixels are summed at once, before the sum joins a longer one: what long sums of much alike numbers lose to
// rounding grows with their length.
#define CTN_SUMMED 16

// The same for `count` pixels, v one vector each and v_ld floats apart. The pixels are those listed, or the ones from
// first on.
CTN_INLINE void FN(ctn_sink_column_act)(const ctn_sink *s, const int32_t *pixels, int64_t first, int64_t count,
                                        int64_t c, int64_t n, const float *v, int64_t v_ld, vf sum[2], int act) {
	vf scale = vset(1.0f), shift = {}, mean = {}, invstd = {};
	const float *z = s->of.z;
	int64_t ld = s->ld, z_ld = s->of.ld;
	int accumulate = s->accumulate, stats = s->stats != 0;
	float *d = s->d;
	if (s->of.scale) scale = vload_part(s->of.scale + c, n), shift = vload_part(s->of.shift + c, n);
	if (stats) mean = vload_part(s->mean + c, n), invstd = vload_part(s->invstd + c, n);
	for (int64_t i = 0; i < count;) {
		vf sum0 = {}, sum1 = {};
		for (int64_t end = ctn_min(count, i + CTN_SUMMED); i < end; i++) {
			int64_t at = pixels ? pixels[i] : first + i;
			vf g = vload(v + i * v_ld);
			if (accumulate) g += vload_part(d + at * ld + c, n);
			if (act >= 0) {
				vf x = vload_part(z + at * z_ld + c, n);
				if (act != CTN_NONE) g *= vslope(x * scale + shift, act);
				if (stats) sum0 += g, sum1 += g * ((x - mean) * invstd);
			}
			vstore_part(d + at * ld + c, g, n);
		}
		if (stats) sum[0] += sum0, sum[1] += sum1;
	}
}
CTN_INLINE void sink_column(const ctn_sink *s, const int32_t *pixels, int64_t first, int64_t count, int64_t c,
                            int64_t n, const float *v, int64_t v_ld, vf sum[2]) {
	switch (s->last ? s->of.act : -1) {
	case -1: FN(ctn_sink_column_act)(s, pixels, first, count, c, n, v, v_ld, sum, -1); break;
	case CTN_NONE: FN(ctn_sink_column_act)(s, pixels, first, count, c, n, v, v_ld, sum, CTN_NONE); break;
	case CTN_RELU: FN(ctn_sink_column_act)(s, pixels, first, count, c, n, v, v_ld, sum, CTN_RELU); break;
	case CTN_RELU6: FN(ctn_sink_column_act)(s, pixels, first, count, c, n, v, v_ld, sum, CTN_RELU6); break;
	case CTN_HSWISH: FN(ctn_sink_column_act)(s, pixels, first, count, c, n, v, v_ld, sum, CTN_HSWISH); break;
	default: FN(ctn_sink_column_act)(s, pixels, first, count, c, n, v, v_ld, sum, s->of.act);
	}
}

// Adds a column of v, n <= CTN_LANES channels from c on of `count` pixels v_ld floats apart, to a part's row of forward
// sums; begin: they are the part's first.
CTN_INLINE void sums_column(float *stats, int64_t ld, int64_t c, int64_t n, const float *v, int64_t v_ld, int64_t count,
                            int begin) {
	vf near, sum = {}, sum2 = {};
	if (begin) near = vload_part(v, n);
	else near = vload_part(stats + c, n), sum = vload_part(stats + ld + c, n), sum2 = vload_part(stats + 2 * ld + c, n);
	for (int64_t i = 0; i < count;) {
		vf part = {}, part2 = {};
		for (int64_t end = ctn_min(count, i + CTN_SUMMED); i < end; i++) {
			vf x = vload_part(v + i * v_ld, n) - near;
			part += x;
			part2 += x * x;
		}
		sum += part;
		sum2 += part2;
	}
	vstore_part(stats + c, near, n), vstore_part(stats + ld + c, sum, n), vstore_part(stats + 2 * ld + c, sum2, n);
}

// Stores a column of v, the gradient in n <= CTN_LANES channels from c on of `count` pixels from `first` on, and adds
// to a part's row of sums.
CTN_ONCE void sink_part_column(const ctn_sink *s, int64_t first, int64_t count, int64_t c, int64_t n, const float *v,
                               int64_t v_ld, float *stats, int begin) {
	vf sum[2] = {{}, {}};
	if (stats && !begin) sum[0] = vload_part(stats + c, n), sum[1] = vload_part(stats + s->stats_ld + c, n);
	sink_column(s, 0, first, count, c, n, v, v_ld, sum);
	if (stats) vstore_part(stats + c, sum[0], n), vstore_part(stats + s->stats_ld + c, sum[1], n);
}

// Stores v, the gradient in n channels from c0 on of a pixel, and adds to a part's row of sums; begin: the part's first
// pixel.
CTN_ONCE void sink_row(const ctn_sink *s, int64_t pixel, int64_t c0, int64_t n, const float *v, float *stats,
                       int begin) {
	for (int64_t j = 0; j < n; j += CTN_LANES) {
		int64_t m = ctn_min(CTN_LANES, n - j), c = c0 + j;
		vf sum[2] = {{}, {}};
		if (stats && !begin) sum[0] = vload_part(stats + c, m), sum[1] = vload_part(stats + s->stats_ld + c, m);
		sink_part(s, pixel, c, m, vload_part(v + j, m), sum);
		if (stats) vstore_part(stats + c, sum[0], m), vstore_part(stats + s->stats_ld + c, sum[1], m);
	}
}
