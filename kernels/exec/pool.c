#include "pool.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <malloc.h>
#include <sys/mman.h>
#endif

// How a pool shares work: the leader publishes an operation by storing a new phase together with task number 0 in one
// 64-bit word; a thread claims a task by a compare-and-swap that adds one to that word. A claim can only succeed in the
// phase that was read, and the next phase starts only after every task has been counted done, so a thread that sleeps
// or comes late holds nobody up. While the leader changes the operation, the task number reads CLOSED, which no thread
// claims.
#define CLOSED 0xffffffffu
struct ctn_pool {
	_Atomic uint64_t state; // phase << 32 | next task
	_Atomic int64_t done;
	_Atomic(const ctn_op *) op;
	_Atomic int64_t tasks;
	_Atomic int sleepers, quit;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int threads;
	int64_t scratch_floats;
	float **scratch;
	pthread_t *ids;
	struct worker {
		struct ctn_pool *pool;
		int index;
	} *workers;
};

static inline void relax(void) {
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

// Whether a phase other than the one seen is open for claims.
static int fresh(ctn_pool *p, uint32_t seen) {
	uint64_t s = atomic_load(&p->state);
	return (uint32_t)(s >> 32) != seen && (uint32_t)s != CLOSED;
}

// Takes tasks of the current phase until none is left.
static void work(ctn_pool *p, int index) {
	uint64_t s = atomic_load(&p->state);
	for (;;) {
		const ctn_op *op = atomic_load_explicit(&p->op, memory_order_acquire);
		int64_t n = atomic_load_explicit(&p->tasks, memory_order_acquire), task = (int64_t)(s & 0xffffffffu);
		if (task >= n) return;
		if (!atomic_compare_exchange_weak(&p->state, &s, s + 1)) continue;
		op->kernel->run(op->args, task, p->scratch[index]);
		atomic_fetch_add(&p->done, 1);
		s = atomic_load(&p->state);
	}
}

static void *worker_main(void *arg) {
	struct worker *w = arg;
	ctn_pool *p = w->pool;
	uint32_t seen = 0;
	while (!atomic_load(&p->quit)) {
		// Between the operations of a run the wait is shorter than a sleep; a run that ended leaves the threads asleep.
		int spins = 0;
		while (!fresh(p, seen) && spins < 4000) spins++, relax();
		if (!fresh(p, seen)) {
			pthread_mutex_lock(&p->lock);
			atomic_fetch_add(&p->sleepers, 1);
			while (!fresh(p, seen) && !atomic_load(&p->quit)) pthread_cond_wait(&p->wake, &p->lock);
			atomic_fetch_sub(&p->sleepers, 1);
			pthread_mutex_unlock(&p->lock);
			continue;
		}
		seen = (uint32_t)(atomic_load(&p->state) >> 32);
		work(p, w->index);
	}
	return NULL;
}

static void wake_all(ctn_pool *p) {
	pthread_mutex_lock(&p->lock);
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

static void run_one(ctn_pool *p, const ctn_op *op) {
	int64_t n = op->kernel->tasks(op->args);
	if (n <= 1 || p->threads == 1) {
		for (int64_t i = 0; i < n; i++) op->kernel->run(op->args, i, p->scratch[0]);
		return;
	}
	uint64_t phase = ((atomic_load(&p->state) >> 32) + 1) << 32;
	atomic_store(&p->state, phase | CLOSED);
	atomic_store(&p->done, 0);
	atomic_store(&p->op, op);
	atomic_store(&p->tasks, n);
	atomic_store(&p->state, phase);
	if (atomic_load(&p->sleepers)) wake_all(p);
	work(p, 0);
	for (int spins = 0; atomic_load(&p->done) < n; spins++) {
		relax();
		if (spins > 2000) sched_yield(), spins = 0;
	}
}

void ctn_pool_run(ctn_pool *p, const ctn_op *ops, int64_t n, int64_t repeat) {
	for (int64_t r = 0; r < repeat; r++)
		for (int64_t i = 0; i < n; i++) run_one(p, &ops[i]);
}

int ctn_pool_scratch(ctn_pool *p, int64_t floats) {
	if (floats <= p->scratch_floats) return 0;
	for (int i = 0; i < p->threads; i++) {
		float *s = ctn_alloc(floats * 4);
		if (!s) return -1;
		free(p->scratch[i]);
		p->scratch[i] = s;
	}
	p->scratch_floats = floats;
	return 0;
}

// Buffers of 256 KiB and more are pages of their own, so that freed ones return to the system. glibc's own threshold
// grows to 32 MiB with the first large block that is freed, and every thread that allocates keeps a heap of holes.
static void return_large_blocks(void) {
#if defined(__GLIBC__)
	mallopt(M_MMAP_THRESHOLD, 256 << 10);
	mallopt(M_ARENA_MAX, 1);
#endif
}

ctn_pool *ctn_pool_new(int threads) {
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, return_large_blocks);
	ctn_pool *p = calloc(1, sizeof *p);
	if (!p) return NULL;
	p->threads = 1;
	p->scratch = calloc((size_t)threads, sizeof *p->scratch);
	p->ids = calloc((size_t)threads, sizeof *p->ids);
	p->workers = calloc((size_t)threads, sizeof *p->workers);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	if (p->scratch && p->ids && p->workers)
		for (; p->threads < threads; p->threads++) {
			struct worker *w = &p->workers[p->threads];
			w->pool = p, w->index = p->threads;
			if (pthread_create(&p->ids[p->threads], NULL, worker_main, w)) break;
		}
	if (p->threads < threads || ctn_pool_scratch(p, 16)) {
		ctn_pool_free(p);
		return NULL;
	}
	return p;
}

void ctn_pool_free(ctn_pool *p) {
	if (!p) return;
	atomic_store(&p->quit, 1);
	wake_all(p);
	for (int i = 1; i < p->threads; i++) pthread_join(p->ids[i], NULL);
	if (p->scratch)
		for (int i = 0; i < p->threads; i++) free(p->scratch[i]);
	free(p->scratch), free(p->ids), free(p->workers);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->wake);
	free(p);
}

int ctn_poison;

void *ctn_alloc(int64_t bytes) {
	const int64_t page = 2 << 20;
	int64_t align = bytes >= 2 * page ? page : 64;
	bytes = ctn_max(1, ctn_div_up(bytes, align)) * align;
	void *b = aligned_alloc((size_t)align, (size_t)bytes);
	if (!b) return NULL;
#ifdef MADV_HUGEPAGE
	// Rows are gathered from all over a large buffer: with small pages the look-up of addresses costs as much as the
	// rows.
	if (align == page) madvise(b, (size_t)bytes, MADV_HUGEPAGE); // This is a wish: nothing depends on it.
#endif
	int fill = ctn_poison ? 0xff : 0;
#if defined(__linux__)
	// Pages that are given back are zero when they are next touched, which is when they are used, if ever.
	if (align == page && !fill && !madvise(b, (size_t)bytes, MADV_DONTNEED)) return b;
#endif
	memset(b, fill, (size_t)bytes);
	return b;
}

int ctn_level_supported(int level) {
#if defined(__x86_64__)
	__builtin_cpu_init();
	switch (level) {
	case CTN_PORTABLE: return 1;
#ifdef CTN_WITH_AVX2X16
	case CTN_AVX2X16:
#endif
	case CTN_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	case CTN_AVX512:
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
	}
	return 0;
#else
	return level == CTN_PORTABLE;
#endif
}
