// CUDA C++ for the host's compiler: what a .cu file sees when kernels/sim runs it. exec/cuda.cuh includes it where nvcc
// does not compile.
//
// Each CUDA thread is a fiber that runs until it has to wait, so that between two barriers the threads of a block run
// one after the other: the worst legal schedule for a barrier that is missing.
#ifndef CTN_CUDA_SIM_H
#define CTN_CUDA_SIM_H
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define CTN_NOINLINE __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
#define __restrict__ __restrict
#define __shared__ \
	shared_memory_is_declared_with_STATIC_SHARED_or_DYNAMIC_SHARED // a plain variable could not be watched

#define CTN_VECTOR(type, T, align) \
	struct alignas(align) T##2 { type x, y; }; \
	struct alignas(2 * align) T##4 { type x, y, z, w; }; \
	inline T##2 make_##T##2(type x, type y) { return {x, y}; } \
	inline T##4 make_##T##4(type x, type y, type z, type w) { return {x, y, z, w}; }
CTN_VECTOR(float, float, 8)
CTN_VECTOR(int, int, 8)
CTN_VECTOR(unsigned, uint, 8)
#undef CTN_VECTOR
struct uint3 {
	unsigned x, y, z;
};

extern __thread uint3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

namespace sim {

// Ends the launch with "entry: block (x,y,z), thread (x,y,z): text". It does not return, but is not declared so:
// AddressSanitizer would look at a stack that it does not know.
void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

extern __thread unsigned number; // of the running thread in its block
inline unsigned lane() { return number % 32; }

// Waits for all threads of the block and returns how many of them had a vote.
int barrier(bool vote, const char *file, int line);

// Waits for the lanes of a mask, all with the same function; the last one calls it for all, with what each of them
// brought.
typedef void (*collective)(void *const brought[32], unsigned mask);
void meet(unsigned mask, collective f, void *mine, const char *name);

// A variable declared by STATIC_SHARED. Its memory is made, full of 0xFF, when a block first comes to it.
struct variable {
	size_t size;
};
void *static_shared(const variable *v);
void *dynamic_shared();

// ---- registry -----------------------------------------------------------------

typedef void (*any_function)();
struct entry {
	entry(const char *name, any_function function, void (*call)(any_function, const void *), size_t size,
	      unsigned threads);
};

template <class Args> void call(any_function f, const void *args) {
	Args a;
	memcpy(&a, args, sizeof a);
	((void (*)(Args))f)(a);
}

// The numbers are those of __launch_bounds__: threads of a block, and blocks that a multiprocessor should hold.
template <class Args> entry enter(const char *name, void (*f)(Args), unsigned threads, unsigned = 1) {
	static_assert(std::is_trivially_copyable<Args>::value && sizeof(Args) <= 4096,
	              "an entry takes a plain struct of at most 4 KiB");
	return entry(name, (any_function)f, call<Args>, sizeof(Args), threads);
}

} // namespace sim

// An entry, which makes itself known to the simulator.
#define CTN_ENTRY(name, parameter, ...) \
	extern "C" void name(parameter); \
	static sim::entry name##_entry = sim::enter(#name, name, __VA_ARGS__); \
	extern "C" void name(parameter)

#define DYNAMIC_SHARED(type, name) type *name = (type *)sim::dynamic_shared()
#define STATIC_SHARED(type, name) \
	static const sim::variable name##_variable = {sizeof(ctn_type<type>)}; \
	ctn_type<type> &name = *(ctn_type<type> *)sim::static_shared(&name##_variable)

// ---- barriers and warps -------------------------------------------------------

inline void __syncthreads(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
	sim::barrier(false, file, line);
}
inline int __syncthreads_count(int p, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
	return sim::barrier(p != 0, file, line);
}
inline int __syncthreads_or(int p, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
	return sim::barrier(p != 0, file, line) != 0;
}
inline int __syncthreads_and(int p, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
	return sim::barrier(p == 0, file, line) == 0;
}

inline void __syncwarp(unsigned mask = ~0u) {
	sim::meet(mask, [](void *const *, unsigned) {}, nullptr, "__syncwarp");
}

namespace sim {

template <class T> struct offer {
	T value, result;
	unsigned source;
};

template <class T> T shuffle(unsigned mask, T value, unsigned source, const char *name) {
	static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
	if (mask >> lane() & 1 && !(mask >> source & 1))
		fail("%s reads lane %u, which is not in mask %08x", name, source, mask);
	offer<T> mine = {value, value, source};
	auto exchange = [](void *const *brought, unsigned lanes) {
		for (unsigned l = 0; l < 32; l++) {
			if (!(lanes >> l & 1)) continue;
			offer<T> *o = (offer<T> *)brought[l];
			o->result = ((const offer<T> *)brought[o->source])->value;
		}
	};
	meet(mask, exchange, &mine, name);
	return mine.result;
}

// The lane to read from: its own where the other one is in another segment of width lanes.
inline unsigned within(unsigned source, int width) {
	unsigned segment = ~(unsigned)(width - 1);
	return (source & segment) == (lane() & segment) && source < 32 ? source : lane();
}

inline unsigned ballot(unsigned mask, bool p, const char *name) {
	unsigned mine = p;
	auto vote = [](void *const *brought, unsigned lanes) {
		unsigned result = 0;
		for (unsigned l = 0; l < 32; l++)
			if (lanes >> l & 1) result |= *(const unsigned *)brought[l] << l;
		for (unsigned l = 0; l < 32; l++)
			if (lanes >> l & 1) *(unsigned *)brought[l] = result;
	};
	meet(mask, vote, &mine, name);
	return mine;
}

} // namespace sim

template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
	return sim::shuffle(mask, value, (sim::lane() & ~(width - 1)) | (source & (width - 1)), "__shfl_sync");
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
	return sim::shuffle(mask, value, sim::within(sim::lane() - delta, width), "__shfl_up_sync");
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
	return sim::shuffle(mask, value, sim::within(sim::lane() + delta, width), "__shfl_down_sync");
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
	return sim::shuffle(mask, value, sim::within(sim::lane() ^ (unsigned)with, width), "__shfl_xor_sync");
}
inline unsigned __ballot_sync(unsigned mask, int p) { return sim::ballot(mask, p != 0, "__ballot_sync"); }
inline int __any_sync(unsigned mask, int p) { return sim::ballot(mask, p != 0, "__any_sync") != 0; }
inline int __all_sync(unsigned mask, int p) { return sim::ballot(mask, p != 0, "__all_sync") == mask; }
inline unsigned __activemask() { return 1u << sim::lane(); } // the least that a GPU may answer

// ---- memory -------------------------------------------------------------------

template <class T> T __ldg(const T *p) { return *p; }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __threadfence(); }
inline void __threadfence_system() { __threadfence(); }

namespace sim {
// Blocks run on several threads of the host, so atomics are real ones.
template <class T, class F> T atomic(T *p, F next) {
	static_assert(sizeof(T) == 4 || sizeof(T) == 8, "an atomic has 4 or 8 bytes");
	T old, desired;
	__atomic_load(p, &old, __ATOMIC_RELAXED);
	do desired = next(old);
	while (!__atomic_compare_exchange(p, &old, &desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return old;
}
} // namespace sim

#define CTN_ATOMIC(name, T, expression) \
	inline T name(T *p, T v) { \
		return sim::atomic(p, [v](T old) -> T { return expression; }); \
	}
#define CTN_ATOMICS(T) \
	CTN_ATOMIC(atomicAdd, T, old + v) \
	CTN_ATOMIC(atomicMin, T, v < old ? v : old) \
	CTN_ATOMIC(atomicMax, T, old < v ? v : old) \
	CTN_ATOMIC(atomicExch, T, ((void)old, v)) \
	inline T atomicCAS(T *p, T expected, T v) { \
		return sim::atomic(p, [expected, v](T old) { return old == expected ? v : old; }); \
	}
CTN_ATOMICS(int)
CTN_ATOMICS(unsigned)
CTN_ATOMICS(unsigned long long)
CTN_ATOMIC(atomicAdd, float, old + v)
CTN_ATOMIC(atomicExch, float, ((void)old, v))
CTN_ATOMIC(atomicSub, int, (int)((unsigned)old - (unsigned)v))
CTN_ATOMIC(atomicSub, unsigned, old - v)
CTN_ATOMIC(atomicAnd, unsigned, old &v)
CTN_ATOMIC(atomicOr, unsigned, old | v)
CTN_ATOMIC(atomicXor, unsigned, old ^ v)
#undef CTN_ATOMICS
#undef CTN_ATOMIC

// ---- arithmetic ---------------------------------------------------------------

#define CTN_MIN_MAX(T) \
	inline T min(T a, T b) { return b < a ? b : a; } \
	inline T max(T a, T b) { return a < b ? b : a; }
CTN_MIN_MAX(int)
CTN_MIN_MAX(unsigned)
CTN_MIN_MAX(long)
CTN_MIN_MAX(unsigned long)
CTN_MIN_MAX(long long)
CTN_MIN_MAX(unsigned long long)
#undef CTN_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }

template <class To, class From> To ctn_bits(From x) {
	To r;
	static_assert(sizeof r == sizeof x, "as many bits");
	memcpy(&r, &x, sizeof r);
	return r;
}
inline int __float_as_int(float x) { return ctn_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return ctn_bits<unsigned>(x); }
inline float __int_as_float(int x) { return ctn_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return ctn_bits<float>(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
	x = __builtin_bswap32(x);
	x = (x & 0x0f0f0f0fu) << 4 | (x >> 4 & 0x0f0f0f0fu);
	x = (x & 0x33333333u) << 2 | (x >> 2 & 0x33333333u);
	return (x & 0x55555555u) << 1 | (x >> 1 & 0x55555555u);
}
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
inline int __float2int_rn(float x) { return (int)rintf(x); }
inline int __float2int_rd(float x) { return (int)floorf(x); }
inline int __float2int_rz(float x) { return (int)x; }
inline float __int2float_rn(int x) { return (float)x; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
inline float ctn_rsqrtf(float x) { return 1.0f / sqrtf(x); }

// Names that a C library has, or may have, with its own meaning.
#define rsqrtf ctn_rsqrtf
#define __expf expf
#define __logf logf
#define __log2f log2f
#define __powf powf
#define __sinf sinf
#define __cosf cosf

inline void __trap() { sim::fail("trap"); }

// ---- exec/ptx.cuh -------------------------------------------------------------

namespace sim {
void cp_async_wait(size_t groups);
}
void cp_async16(void *shared, const void *global);
void cp_async16_or_zero(void *shared, const void *global, bool there);
void cp_async_commit();
template <int N> void cp_async_wait() { sim::cp_async_wait(N); }
void ldmatrix_x4(uint32_t (&r)[4], const void *row);
void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row);
void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_m16n8k8_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2]);
uint32_t pack_bf16(float low, float high);

#endif
