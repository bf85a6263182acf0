// Optimizers over flat buffers: a task is a block of elements.
#ifndef CTN_LANES
#include "optim.h"
#define CTN_SELF "optim_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_adam_begin, adam_begin)
CTN_TABLE(ctn_adam, adam)
CTN_TABLE(ctn_norm_parts, norm_parts)
CTN_TABLE(ctn_norm, norm)
CTN_TABLE(ctn_ema, ema)
CTN_TABLE(ctn_schedule, schedule)
CTN_TABLE(ctn_sgd, sgd)
CTN_TABLE(ctn_rmsprop, rmsprop)
CTN_TABLE(ctn_clamp, clamp)
#else

// The square root of each lane. GCC makes simd.h's loop a branch and a call a lane, because sqrtf may set errno.
CTN_INLINE vf FN(root)(vf x) {
#if defined(__AVX512F__) && CTN_LANES == 16
	return (vf)__builtin_ia32_sqrtps512_mask(x, x, 0xffff, 4);
#elif defined(__AVX__)
	typedef float part __attribute__((vector_size(32)));
	part parts[CTN_LANES / 8];
	memcpy(parts, &x, sizeof x);
	for (int i = 0; i < CTN_LANES / 8; i++) parts[i] = __builtin_ia32_sqrtps256(parts[i]);
	memcpy(&x, parts, sizeof x);
	return x;
#elif defined(__SSE__) && CTN_LANES == 4
	return __builtin_ia32_sqrtps(x);
#else
	return vsqrt(x);
#endif
}

static int64_t FN(adam_begin_tasks)(const void *p) {
	(void)p;
	return 1;
}
static void FN(adam_begin_run)(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	const ctn_adam_args *a = p;
	int32_t step = ++*a->step;
	double lr = *a->lr;
	a->terms[CTN_ADAM_STEP_SIZE] = (float)(lr / (1 - pow(a->beta1, step)));
	a->terms[CTN_ADAM_ROOT] = (float)(1 / sqrt(1 - pow(a->beta2, step)));
	a->terms[CTN_ADAM_KEEP] = (float)(1 - lr * a->decay);
	a->terms[CTN_ADAM_SHRINK] = (float)(lr * a->decay);
	a->terms[CTN_ADAM_SCALE] = a->scale ? *a->scale : 1;
}

static int64_t FN(adam_tasks)(const void *p) { return ctn_div_up(((const ctn_adam_args *)p)->n, CTN_OPTIM_BLOCK); }
static void FN(adam_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_adam_args *a = p;
	int64_t i = task * CTN_OPTIM_BLOCK, end = ctn_min(i + CTN_OPTIM_BLOCK, a->n);
	float scale = a->terms[CTN_ADAM_SCALE], size = a->terms[CTN_ADAM_STEP_SIZE], root = a->terms[CTN_ADAM_ROOT];
	float l2 = a->decoupled ? 0 : (float)a->decay, shrink = a->decoupled ? a->terms[CTN_ADAM_SHRINK] : 0,
	      eps = (float)a->eps;
	float up1 = (float)(1 - a->beta1), b2 = (float)a->beta2, up2 = (float)(1 - a->beta2);
	vf keep = vset(a->decoupled ? a->terms[CTN_ADAM_KEEP] : 1.0f), decay = vset(l2);
	for (; i < end; i += CTN_LANES) {
		int64_t left = end - i;
		vf w = vload_part(a->w + i, left), m = vload_part(a->m + i, left), v = vload_part(a->v + i, left);
		if (a->decayed) {
			vf decayed = vload_part(a->decayed + i, left);
			keep = 1.0f - decayed * shrink, decay = decayed * l2;
		}
		vf g = vload_part(a->g + i, left) * scale + w * decay;
		m += (g - m) * up1;
		v = v * b2 + g * g * up2;
		vstore_part(a->m + i, m, left), vstore_part(a->v + i, v, left);
		vstore_part(a->w + i, w * keep - size * m / (FN(root)(v) * root + eps), left);
	}
}

// The gradient and the weight after decay, of the elements from i on.
CTN_INLINE void FN(descent_begin)(const ctn_descent_args *a, int64_t i, int64_t left, vf *w, vf *g) {
	vf decay = vset(a->decay);
	if (a->decayed) decay *= vload_part(a->decayed + i, left);
	*w = vload_part(a->w + i, left);
	*g = vload_part(a->g + i, left) * (a->scale ? *a->scale : 1.0f);
	if (a->decoupled) *w -= *w * decay * *a->lr;
	else *g += *w * decay;
}

// Whether the elements from i on stay as they are.
CTN_INLINE int FN(descent_stays)(const ctn_descent_args *a, int64_t i) {
	return a->tensor && !a->changed[a->tensor[i / CTN_OPTIM_GROUP]];
}

static int64_t FN(sgd_tasks)(const void *p) { return ctn_div_up(((const ctn_descent_args *)p)->n, CTN_OPTIM_BLOCK); }
static void FN(sgd_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_descent_args *a = p;
	int64_t i = task * CTN_OPTIM_BLOCK, end = ctn_min(i + CTN_OPTIM_BLOCK, a->n);
	for (; i < end; i += CTN_LANES) {
		if (FN(descent_stays)(a, i)) continue;
		int64_t left = end - i;
		vf w, g;
		FN(descent_begin)(a, i, left, &w, &g);
		vf v = vload_part(a->v + i, left) * a->momentum + g;
		vstore_part(a->v + i, v, left);
		vstore_part(a->w + i, w - *a->lr * (a->nesterov ? g + v * a->momentum : v), left);
	}
}

static int64_t FN(rmsprop_tasks)(const void *p) { return FN(sgd_tasks)(p); }
static void FN(rmsprop_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_descent_args *a = p;
	int64_t i = task * CTN_OPTIM_BLOCK, end = ctn_min(i + CTN_OPTIM_BLOCK, a->n);
	for (; i < end; i += CTN_LANES) {
		if (FN(descent_stays)(a, i)) continue;
		int64_t left = end - i;
		vf w, g;
		FN(descent_begin)(a, i, left, &w, &g);
		vf square = vload_part(a->square + i, left);
		square += (g * g - square) * (1 - a->rho);
		vf v = vload_part(a->v + i, left) * a->momentum + *a->lr * g / FN(root)(square + a->eps);
		vstore_part(a->square + i, square, left), vstore_part(a->v + i, v, left);
		vstore_part(a->w + i, w - v, left);
	}
}

static int64_t FN(norm_parts_tasks)(const void *p) {
	return ctn_div_up(((const ctn_norm_args *)p)->n, CTN_OPTIM_BLOCK);
}
static void FN(norm_parts_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_norm_args *a = p;
	int64_t i = task * CTN_OPTIM_BLOCK, end = ctn_min(i + CTN_OPTIM_BLOCK, a->n);
	vf sum = {};
	for (; i + CTN_LANES <= end; i += CTN_LANES) {
		vf g = vload(a->g + i);
		sum += g * g;
	}
	if (i < end) {
		vf g = vload_part(a->g + i, end - i);
		sum += g * g;
	}
	a->parts[task] = vsum(sum);
}
static int64_t FN(norm_tasks)(const void *p) {
	(void)p;
	return 1;
}
static void FN(norm_run)(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	const ctn_norm_args *a = p;
	double sum = 0;
	for (int64_t i = 0; i < ctn_div_up(a->n, CTN_OPTIM_BLOCK); i++) sum += a->parts[i];
	double norm = sqrt(sum), factor = a->max / (norm + 1e-6);
	a->out[0] = (float)norm;
	a->out[1] = a->max > 0 && !(factor > 1) ? (float)factor : 1;
}

static int64_t FN(clamp_tasks)(const void *p) { return ctn_div_up(((const ctn_clamp_args *)p)->n, CTN_OPTIM_BLOCK); }
static void FN(clamp_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_clamp_args *a = p;
	int64_t i = task * CTN_OPTIM_BLOCK, end = ctn_min(i + CTN_OPTIM_BLOCK, a->n);
	vf most = vset(a->max);
	for (; i < end; i += CTN_LANES) {
		vf g = vload_part(a->g + i, end - i);
		g = vselect(g > most, most, g); // not vminf, which would lose a NaN
		vstore_part(a->g + i, vselect(g < -most, -most, g), end - i);
	}
}

static int64_t FN(ema_tasks)(const void *p) { return ctn_div_up(((const ctn_ema_args *)p)->n, CTN_OPTIM_BLOCK); }
static void FN(ema_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_ema_args *a = p;
	int64_t i = task * CTN_OPTIM_BLOCK, end = ctn_min(i + CTN_OPTIM_BLOCK, a->n);
	float up = 1 - a->decay;
	for (; i + CTN_LANES <= end; i += CTN_LANES) {
		vf mean = vload(a->mean + i);
		vstore(a->mean + i, mean + (vload(a->w + i) - mean) * up);
	}
	if (i < end) {
		vf mean = vload_part(a->mean + i, end - i);
		vstore_part(a->mean + i, mean + (vload_part(a->w + i, end - i) - mean) * up, end - i);
	}
}

static int64_t FN(schedule_tasks)(const void *p) {
	(void)p;
	return 1;
}
static void FN(schedule_run)(const void *p, int64_t task, float *scratch) {
	(void)task, (void)scratch;
	const ctn_schedule_args *a = p;
	double step = *a->step, lr = a->peak;
	if (step < a->warmup) lr = a->peak * (step + 1) / a->warmup;
	else if (a->kind != CTN_CONSTANT) {
		double done = a->total > a->warmup ? (step - a->warmup) / (a->total - a->warmup) : 1;
		if (done > 1) done = 1;
		double left = a->kind == CTN_LINEAR ? 1 - done : 0.5 * (1 + cos(M_PI * done));
		lr = a->final + (a->peak - a->final) * left;
	}
	*a->lr = (float)lr;
}
#endif
