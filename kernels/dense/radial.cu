// Weighted sums of functions of distances.
#include "../exec/cuda.cuh"
#include "../exec/reduce.cuh"
#include "radial.h"

// Grid: rows, a warp each.
CTN_ENTRY(cu_radial, const ctn_radial_args g, CTN_DENSE_BLOCK) {
	const int lane = threadIdx.x % 32;
	const int64_t r = (int64_t)blockIdx.x * (CTN_DENSE_BLOCK / 32) + threadIdx.x / 32;
	if (r >= ctn_size(g.rows)) return;
	float norm = 0, sum = 0;
	for (int64_t j = lane; j < g.width; j += 32) {
		const float v = g.in[r * g.width + j];
		norm += v * v;
	}
	norm = warp_sum(norm);
	for (int64_t c = lane; c < g.centers; c += 32) {
		const float d = g.scale * fmaxf(0.0f, norm + g.norm[c] - 2.0f * g.product[r * g.centers + c]);
		const float root = sqrtf(d);
		sum += g.weight[c] * expf(-root * sqrtf(root));
	}
	sum = warp_sum(sum);
	if (lane == 0) g.out[r] = sum;
}
