// The gated unit of the node-by-node encoder, bound by memory.
#include "../exec/cuda.cuh"
#include "gated.h"

namespace {

// Where a thread's element of a rows x width matrix lies: in the matrix, in one of rows x 2 width, and in its label's
// row of a table.
struct place {
	int64_t single, twice, table;
};
__device__ __forceinline__ bool place_of(const ctn_gated_args &g, place &p) {
	const int64_t i = (int64_t)blockIdx.x * CTN_GRAPH_BLOCK + threadIdx.x;
	if (i >= ctn_size(g.rows) * g.width) return false;
	const uint32_t r = (uint32_t)i / (uint32_t)g.width, j = (uint32_t)i % (uint32_t)g.width;
	p = {i, r * 2 * g.width + j, g.label[r] * 2 * g.width + j};
	return true;
}

} // namespace

// Grid: elements of out.
CTN_ENTRY(cu_gated, const ctn_gated_args g, CTN_GRAPH_BLOCK) {
	place p;
	if (!place_of(g, p)) return;
	const int64_t w = g.width;
	float z = g.table[p.table], t = g.table[p.table + w], a = 0;
	if (g.aggregated) {
		a = g.aggregated[p.single];
		z += g.scale[p.table] * g.product[p.twice];
		t += g.scale[p.table + w] * g.product[p.twice + w];
	}
	z = 1.0f / (1.0f + expf(-z));
	t = tanhf(t);
	g.gates[p.twice] = z;
	g.gates[p.twice + w] = t;
	g.out[p.single] = z * t + (1.0f - z) * a;
}

// Grid: elements of grad.
CTN_ENTRY(cu_gated_backward, const ctn_gated_args g, CTN_GRAPH_BLOCK) {
	place p;
	if (!place_of(g, p)) return;
	const int64_t w = g.width;
	float z = g.gates[p.twice], t = g.gates[p.twice + w], d = g.grad[p.single],
	      a = g.aggregated ? g.aggregated[p.single] : 0.0f;
	float dz = d * (t - a) * z * (1.0f - z), dt = d * z * (1.0f - t * t);
	g.gates[p.twice] = dz;
	g.gates[p.twice + w] = dt;
	if (!g.aggregated) return;
	g.daggregated[p.single] = d * (1.0f - z);
	g.dproduct[p.twice] = dz * g.scale[p.table];
	g.dproduct[p.twice + w] = dt * g.scale[p.table + w];
	g.product[p.twice] *= dz;
	g.product[p.twice + w] *= dt;
}
