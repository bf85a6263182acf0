// The weights of mixtures: some hundred numbers. A thread has a row.
#include "../exec/cuda.cuh"
#include "../exec/reduce.cuh"
#include "mixture.h"

// Grid: rows.
CTN_ENTRY(cu_soften, const ctn_mixture_args g, CTN_MIXTURE_BLOCK) {
	const int64_t r = (int64_t)blockIdx.x * CTN_MIXTURE_BLOCK + threadIdx.x;
	if (r < g.rows) ctn_mixture_soften(&g, r);
}

// Grid: rows. Each warp adds up the cost of all, in the same order.
CTN_ENTRY(cu_soften_backward, const ctn_mixture_args g, CTN_MIXTURE_BLOCK) {
	const int64_t r = (int64_t)blockIdx.x * CTN_MIXTURE_BLOCK + threadIdx.x;
	double cost = 0;
	if (g.cost) {
		for (int64_t i = threadIdx.x; i < g.begin[g.rows]; i += CTN_MIXTURE_BLOCK) cost += ctn_mixture_cost(&g, i);
		cost = warp_sum(cost);
	}
	if (r < g.rows) ctn_mixture_backward(&g, r, cost);
}
