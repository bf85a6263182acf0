// Weighted sums of functions of distances.
#ifndef CTN_LANES
#include "radial.h"
#define CTN_SELF "radial_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_radial, radial)
#else

#undef TASK_ROWS
#define TASK_ROWS 128

static int64_t FN(radial_tasks)(const void *p) {
	return ctn_div_up(ctn_size(((const ctn_radial_args *)p)->rows), TASK_ROWS);
}
static void FN(radial_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_radial_args *g = p;
	int64_t begin = task * TASK_ROWS, end = ctn_min(begin + TASK_ROWS, ctn_size(g->rows));
	for (int64_t r = begin; r < end; r++) {
		const float *x = g->in + r * g->width, *product = g->product + r * g->centers;
		vf square = {}, sum = {};
		for (int64_t j = 0; j < g->width; j += CTN_LANES) {
			vf v = vload_part(x + j, g->width - j);
			square += v * v;
		}
		vf norm = vset(vsum(square));
		for (int64_t c = 0; c < g->centers; c += CTN_LANES) {
			int64_t n = g->centers - c;
			vf d = norm + vload_part(g->norm + c, n) - 2.0f * vload_part(product + c, n);
			d = vmaxf(d * g->scale, (vf){});
			vf root = d * vrsqrt(d); // 0 of 0, as below
			sum += vload_part(g->weight + c, n) * vexp(-root * root * vrsqrt(root));
		}
		g->out[r] = vsum(sum);
	}
}
#endif
