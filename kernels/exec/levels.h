// Compiles one width-generic source once for each instruction set. A family's X_cpu.c reads
//
//   #ifndef CTN_LANES
//   #define CTN_SELF "X_cpu.c"
//   #include "../exec/levels.h"
//   CTN_TABLE(ctn_x, x)            // const ctn_kernel ctn_x[CTN_LEVELS] from FN(x_tasks) and FN(x_run)
//   #else
//   ... code over vf, the vector of CTN_LANES floats; every name of file scope goes through FN()
//   #endif
#include "exec.h"

// Vectors wider than the target's registers never cross a function boundary: every function that takes one is inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

// GCC optimises less what next to nobody runs: on x86-64 the portable level (processors from before 2013), and the one
// of tests alone.
#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC optimize("O1")
#endif
#define CTN_LANES 4
#define FN(name) name##_portable
#include "simd.h"
#include CTN_SELF
#undef CTN_LANES
#undef FN
#if defined(__x86_64__)
#pragma GCC pop_options
#endif

#if defined(__x86_64__)
#define CTN_X86 1

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define CTN_LANES 8
#define FN(name) name##_avx2
#include "simd.h"
#include CTN_SELF
#undef CTN_LANES
#undef FN

#ifdef CTN_WITH_AVX2X16 // see exec.h
#pragma GCC push_options
#pragma GCC optimize("O1")
#define CTN_LANES 16
#define FN(name) name##_avx2x16
#include "simd.h"
#include CTN_SELF
#undef CTN_LANES
#undef FN
#pragma GCC pop_options
#define CTN_X16(name) {name##_tasks_avx2x16, name##_run_avx2x16}
#else
#define CTN_X16(name) {0, 0}
#endif
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")
#define CTN_LANES 16
#define FN(name) name##_avx512
#include "simd.h"
#include CTN_SELF
#undef CTN_LANES
#undef FN
#pragma GCC pop_options

#define CTN_TABLE(symbol, name) \
	const ctn_kernel symbol[CTN_LEVELS] = { \
	        {name##_tasks_portable, name##_run_portable}, \
	        {name##_tasks_avx2, name##_run_avx2}, \
	        CTN_X16(name), \
	        {name##_tasks_avx512, name##_run_avx512}, \
	};
#else
#define CTN_TABLE(symbol, name) const ctn_kernel symbol[CTN_LEVELS] = {{name##_tasks_portable, name##_run_portable}};
#endif
