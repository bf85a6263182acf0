// Decisions to packed graphs. The same code serves all executors; kernels/graph/packed.go names the layout.
#ifndef CTN_CELL_DECODE_H
#define CTN_CELL_DECODE_H
#include "../exec/exec.h"

enum {
	CTN_CELL_NODES = 8,      // most nodes of a packed graph
	CTN_CELL_OPS_AT = 28,    // its first bit of operations, 3 a node
	CTN_CELL_COUNT_AT = 52,  // its first bit of the number of nodes
	CTN_CELL_THREADS = 128,  // GPU: of a block, a graph each
	CTN_CELL_SEQUENCES = 64, // CPU: a task
};

typedef struct ctn_decode_args {
	int64_t batch, steps;
	const int32_t *actions; // [batch, steps]
	int32_t *graphs;        // [batch, 2]: lower half, upper half
	int32_t inner, edges;   // most inner nodes, edges of a whole cell
	uint32_t ops;           // the operations that decisions name, 3 bits each
	uint32_t input, output; // the operations of the first node and the last
} ctn_decode_args;

// A decision of a sequence of steps, as a number below n: 0 where it is none, so that nothing is written out of bounds.
CTN_FN int32_t ctn_cell_take(const int32_t *actions, int64_t steps, int64_t *t, int32_t n) {
	int32_t a = *t < steps ? actions[*t] : 0;
	++*t;
	return a < 0 || a >= n ? 0 : a;
}

// The packed graph of one sequence.
CTN_FN uint64_t ctn_cell_decode(const ctn_decode_args *g, const int32_t *actions) {
	uint64_t in = 0; // bit 8 v + u: there is an edge from u to v
	uint32_t op = g->input;
	int64_t t = 0;
	int32_t inner = 1 + ctn_cell_take(actions, g->steps, &t, g->inner), last = inner + 1;
	for (int32_t v = 1; v <= inner; v++) {
		in |= (uint64_t)1 << (8 * v + ctn_cell_take(actions, g->steps, &t, v));
		op |= (g->ops >> 3 * ctn_cell_take(actions, g->steps, &t, 8) & 7) << 3 * v;
	}
	op |= g->output << 3 * last;
	in |= (uint64_t)1 << (8 * last + ctn_cell_take(actions, g->steps, &t, last));
	for (int32_t e = inner + 1; e < g->edges; e++) {
		int32_t a = ctn_cell_take(actions, g->steps, &t, last + 1), b = ctn_cell_take(actions, g->steps, &t, last + 1);
		if (a != b) in |= (uint64_t)1 << (a > b ? 8 * a + b : 8 * b + a);
	}
	uint32_t reached = 1, reaches = 1u << last; // from the input, the output
	for (int32_t v = 1; v <= last; v++)
		if (in >> 8 * v & reached) reached |= 1u << v;
	for (int32_t v = last; v > 0; v--)
		if (reaches >> v & 1) reaches |= (uint32_t)(in >> 8 * v) & 255;
	uint32_t keep = reached & reaches;
	uint64_t packed = 0;
	int32_t n = 0;
	for (int32_t v = 0; v <= last; v++) {
		if (!(keep >> v & 1)) continue;
		for (int32_t u = 0, to = 0; u < v; u++) {
			if (!(keep >> u & 1)) continue;
			packed |= (in >> (8 * v + u) & 1) << (n * (n - 1) / 2 + to);
			to++;
		}
		packed |= (uint64_t)(op >> 3 * v & 7) << (CTN_CELL_OPS_AT + 3 * n);
		n++;
	}
	return packed | (uint64_t)n << CTN_CELL_COUNT_AT;
}

// Decodes sequence i.
CTN_FN void ctn_cell_run(const ctn_decode_args *g, int64_t i) {
	uint64_t packed = ctn_cell_decode(g, g->actions + i * g->steps);
	g->graphs[2 * i] = (int32_t)(uint32_t)packed;
	g->graphs[2 * i + 1] = (int32_t)(uint32_t)(packed >> 32);
}

extern const ctn_kernel ctn_decode[];

#endif
