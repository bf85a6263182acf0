// Decisions to packed graphs.
#include "../exec/cuda.cuh"
#include "decode.h"

// A thread a graph: some hundred integer operations, and 72 bytes of decisions of NAS-Bench-101. Grid: graphs.
CTN_ENTRY(cu_decode, const ctn_decode_args g, CTN_CELL_THREADS) {
	int64_t i = (int64_t)blockIdx.x * CTN_CELL_THREADS + threadIdx.x;
	if (i < g.batch) ctn_cell_run(&g, i);
}
