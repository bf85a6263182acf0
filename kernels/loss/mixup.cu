// What a second label changes in a loss and its gradient.
#include "../exec/cuda.cuh"
#include "../exec/reduce.cuh"
#include "../tensor/load.cuh"
#include "mixup.h"

namespace {

template <class T> __device__ __forceinline__ void mixup(const ctn_mixup_args &g) {
	double used = 0, loss = 0;
	for (int64_t r = threadIdx.x; r < g.n; r += CTN_MIXUP_BLOCK) used += g.label[r] >= 0;
	used = block_sum<CTN_MIXUP_BLOCK>(used);
	const float rest = (1 - *g.weight) * g.share / (float)(used > 1 ? used : 1);
	for (int64_t r = threadIdx.x; r < g.n; r += CTN_MIXUP_BLOCK) {
		if (g.label[r] < 0 || g.label[r] == g.partner[r]) continue;
		const int64_t ours = r * g.classes + ctn_min(g.label[r], g.classes - 1),
		              theirs = r * g.classes + ctn_max(0, ctn_min(g.partner[r], g.classes - 1));
		const T *x = (const T *)g.logit;
		loss += (double)to_float(x[ours]) - to_float(x[theirs]);
		if (T *d = (T *)g.dlogit)
			d[ours] = stored<T>(to_float(d[ours]) + rest), d[theirs] = stored<T>(to_float(d[theirs]) - rest);
	}
	loss = block_sum<CTN_MIXUP_BLOCK>(loss);
	if (threadIdx.x == 0) *g.loss += (float)(rest * loss);
}

} // namespace

// One block: a thread has some rows, of which two elements change.
CTN_ENTRY(cu_mixup, const ctn_mixup_args g, CTN_MIXUP_BLOCK) { mixup<float>(g); }
CTN_ENTRY(cu_mixup_bf16, const ctn_mixup_args g, CTN_MIXUP_BLOCK) { mixup<bf16>(g); }
