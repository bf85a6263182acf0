// What every .cu file includes first. The same source has two compilers: nvcc, and the host's C++ compiler, for which
// kernels/sim runs it on the CPU.
//
//   CTN_ENTRY(cu_x, const ctn_x_args g, THREADS) {   an entry: name, parameter (a struct by value), __launch_bounds__;
//                                                    the simulator knows it by that
//   STATIC_SHARED(float[32][33], tile);              in place of "__shared__ float tile[32][33];"
//   DYNAMIC_SHARED(float, work);                     the launch's dynamic shared memory, a float *
//
// Both start on 16 bytes. Every thread of a block meets every __syncthreads, or none does; a mask of a warp function
// names lanes that take part, all of them: a thread that has nothing to do goes along and writes nothing. A block is a
// multiple of 32 threads where a full mask is used. Functions that are not entries are static, or in a header that
// their .cu files share: all files end up in one program.
#ifndef CTN_CUDA_CUH
#define CTN_CUDA_CUH
#include <stdint.h>

template <class T> using ctn_type = T; // lets a macro declare a "float[32][33]"

// A float's upper half: 8 bits of exponent, 7 of mantissa.
struct bf16 {
	uint16_t bits;
};

#ifdef __CUDACC__
#define CTN_ENTRY(name, parameter, ...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__) name(parameter)
#define STATIC_SHARED(type, name) __shared__ __align__(16) ctn_type<type> name
#define DYNAMIC_SHARED(type, name) \
	extern __shared__ __align__(16) unsigned char ctn_dynamic_shared[]; \
	type *name = (type *)ctn_dynamic_shared
#define CTN_NOINLINE __noinline__ // a function that is called, so that its registers are not its callers'
#include "ptx.cuh"
#else
#include "../sim/cuda_sim.h"
#endif

__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float((uint32_t)x.bits << 16); }

// Rounds to nearest, ties to even. A NaN becomes 0x7fff.
__device__ __forceinline__ bf16 to_bf16(float x) { return {(uint16_t)pack_bf16(x, 0.0f)}; }

// x, of which the compiler knows nothing more: what is computed from it is computed where it is wanted, again each time,
// and holds no registers through the loops before.
__device__ __forceinline__ int late(int x) {
	asm volatile("" : "+r"(x));
	return x;
}

// The two numbers of a pack_bf16.
__device__ __forceinline__ float2 unpack_bf16(uint32_t pair) {
	return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

#endif
