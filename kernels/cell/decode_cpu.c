// The same integers whatever the instruction set: one function for all levels.
#include "decode.h"

static int64_t tasks(const void *p) { return ctn_div_up(((const ctn_decode_args *)p)->batch, CTN_CELL_SEQUENCES); }
static void run(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_decode_args *g = p;
	int64_t i = task * CTN_CELL_SEQUENCES, end = ctn_min(i + CTN_CELL_SEQUENCES, g->batch);
	for (; i < end; i++) ctn_cell_run(g, i);
}

const ctn_kernel ctn_decode[CTN_LEVELS] = {{tasks, run}, {tasks, run}, {tasks, run}, {tasks, run}};
