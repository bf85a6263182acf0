#ifndef CTN_POOL_H
#define CTN_POOL_H
#include "exec.h"

typedef struct ctn_op {
	const ctn_kernel *kernel;
	const void *args;
} ctn_op;

typedef struct ctn_pool ctn_pool;

// A pool of `threads` threads, the caller of ctn_pool_run being the first; NULL when a thread cannot be started.
ctn_pool *ctn_pool_new(int threads);
void ctn_pool_free(ctn_pool *p);

// Each thread's scratch grows to at least this many floats; only between runs. Returns 0, or -1 without memory.
int ctn_pool_scratch(ctn_pool *p, int64_t floats);

// Runs the operations in order, `repeat` times.
void ctn_pool_run(ctn_pool *p, const ctn_op *ops, int64_t n, int64_t repeat);

// Memory that starts on 64 bytes and is zero, or, with ctn_poison, full of 0xFF: its floats are then NaN and its
// integers -1, so that a read before a write shows in a test.
void *ctn_alloc(int64_t bytes);
extern int ctn_poison;

int ctn_level_supported(int level);

#endif
