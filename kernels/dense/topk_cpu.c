// The k largest: a heap of the best keys so far, its least on top. Nearly all elements are below it and cost a
// comparison.
#ifndef CTN_LANES
#include "topk.h"
#define CTN_SELF "topk_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_topk, topk)
#else

// Puts key where the top of the heap of n keys was.
CTN_INLINE void FN(sink)(uint64_t *heap, int64_t n, uint64_t key) {
	int64_t i = 0;
	for (int64_t child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && heap[child + 1] < heap[child]) child++;
		if (key <= heap[child]) break;
		heap[i] = heap[child];
	}
	heap[i] = key;
}

static int64_t FN(topk_tasks)(const void *p) { return (void)p, 1; }
static void FN(topk_run)(const void *p, int64_t task, float *scratch) {
	(void)task;
	const ctn_topk_args *g = p;
	uint64_t *heap = (uint64_t *)scratch;
	memset(heap, 0, (size_t)g->k * sizeof *heap); // the least key can be 0 too: it is then in the heap already
	float least = -INFINITY;                      // the element on top of a full heap
	for (int64_t i = 0; i < g->n; i++) {
		if (g->in[i] < least) continue;
		uint64_t key = ctn_topk_key(g, i);
		if (key <= heap[0]) continue;
		FN(sink)(heap, g->k, key);
		if (i >= g->k - 1) least = g->in[ctn_topk_index(g, heap[0])];
	}
	for (int64_t n = g->k - 1; n >= 0; n--) {
		int64_t i = ctn_topk_index(g, heap[0]);
		g->index[n] = (int32_t)i;
		g->value[n] = g->in[i];
		FN(sink)(heap, n, heap[n]);
	}
}
#endif
