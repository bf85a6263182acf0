// The contract between recorded operations and what runs them. Every kernels/* family includes it, in C and in CUDA
// C++: the structs of arguments are the same for all executors.
#ifndef CTN_EXEC_H
#define CTN_EXEC_H
#include <stdint.h>
#ifdef __CUDACC__
#define CTN_FN static __host__ __device__ inline
#else
#define CTN_FN static inline
#endif

// A kernel is split into tasks that may run in any order and on any thread: what a task writes depends on its number
// alone, never on who runs it, so results do not depend on the number of threads.
typedef struct ctn_kernel {
	int64_t (*tasks)(const void *args); // how many tasks, read each time the operation starts
	void (*run)(const void *args, int64_t task,
	            float *scratch); // scratch: this thread's, 64-byte aligned, of the recorded size
} ctn_kernel;

// Instruction sets, in the order of every family's table. CTN_AVX2X16 is the 16-lane code lowered to AVX2: it lets
// tests of a machine without AVX-512 execute the logic of that level. It is a fifth of what compiling a family takes
// and of no other use, so it is there only with CTN_WITH_AVX2X16 defined, as on such machines (scripts/x16.sh).
enum { CTN_PORTABLE, CTN_AVX2, CTN_AVX2X16, CTN_AVX512, CTN_LEVELS };

// A size that is fixed when the program is recorded (at == 0), or read from memory when the operation runs.
typedef struct ctn_dim {
	const int32_t *at;
	int64_t max;
} ctn_dim;

CTN_FN int64_t ctn_size(ctn_dim d) {
	if (!d.at) return d.max;
	int64_t n = *d.at;
	return n < 0 ? 0 : n > d.max ? d.max : n; // a wrong count must not write out of bounds
}

CTN_FN int64_t ctn_div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
CTN_FN int64_t ctn_min(int64_t a, int64_t b) { return a < b ? a : b; }
CTN_FN int64_t ctn_max(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
