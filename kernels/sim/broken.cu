// ctnas-archs: none
// Kernels with one mistake each, which the simulator has to find. They are no use on a GPU.
#include "../exec/cuda.cuh"
#include "selftest.h"

#ifdef __CUDACC__
#define UNCHECKED
#else
#define UNCHECKED __attribute__((no_sanitize("undefined"))) // UndefinedBehaviorSanitizer would stop before the mistake
#endif

// Each thread reads its left neighbour's number with no barrier in between.
CTN_ENTRY(ctn_broken_left, ctn_selftest_args a, 1024) {
	STATIC_SHARED(float[64], s);
	s[threadIdx.x] = a.x[threadIdx.x];
	a.out[threadIdx.x] = s[max((int)threadIdx.x - 1, 0)];
}

// The same with the right neighbour.
CTN_ENTRY(ctn_broken_right, ctn_selftest_args a, 1024) {
	STATIC_SHARED(float[64], s);
	s[threadIdx.x] = a.x[threadIdx.x];
	a.out[threadIdx.x] = s[min((int)threadIdx.x + 1, 63)];
}

CTN_ENTRY(ctn_broken_divergent, ctn_selftest_args a, 1024) {
	if (threadIdx.x < 40) __syncthreads();
	else __syncwarp();
	a.out[threadIdx.x] = 0;
}

CTN_ENTRY(ctn_broken_two_barriers, ctn_selftest_args a, 1024) {
	if (threadIdx.x < 32) __syncthreads();
	if (threadIdx.x >= 32) __syncthreads();
	a.out[threadIdx.x] = 0;
}

CTN_ENTRY(ctn_broken_leaves, ctn_selftest_args a, 1024) {
	if ((int)threadIdx.x >= a.n) return;
	__syncthreads();
	a.out[threadIdx.x] = 0;
}

CTN_ENTRY(ctn_broken_lane_leaves, ctn_selftest_args a, 1024) {
	if ((int)threadIdx.x >= a.n) return;
	a.out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, a.x[threadIdx.x], 1);
}

CTN_ENTRY(ctn_broken_mask, ctn_selftest_args a, 1024) {
	a.out[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, a.x[threadIdx.x], 1);
}

CTN_ENTRY(ctn_broken_source, ctn_selftest_args a, 1024) {
	if (threadIdx.x < 16) a.out[threadIdx.x] = __shfl_down_sync(0x0000ffffu, a.x[threadIdx.x], 1);
}

CTN_ENTRY(ctn_broken_functions, ctn_selftest_args a, 1024) {
	if (threadIdx.x < 16) a.out[threadIdx.x] = __ballot_sync(0xffffffffu, 1);
	else __syncwarp();
}

CTN_ENTRY(ctn_broken_past_end, ctn_selftest_args a, 1024) {
	if (threadIdx.x == 0) a.out[a.n] = 1;
}

CTN_ENTRY(ctn_broken_before_start, ctn_selftest_args a, 1024) {
	if (threadIdx.x == 0) ((double *)a.out)[-1] = 1;
}

CTN_ENTRY(ctn_broken_static_overrun, ctn_selftest_args a, 1024) {
	STATIC_SHARED(float[32], fixed);
	float *s = fixed; // so that the compiler does not know the size
	s[threadIdx.x] = a.x[threadIdx.x];
	a.out[threadIdx.x] = s[threadIdx.x];
}

CTN_ENTRY(ctn_broken_dynamic_overrun, ctn_selftest_args a, 1024) {
	DYNAMIC_SHARED(float, s);
	s[threadIdx.x] = a.x[threadIdx.x];
}

CTN_ENTRY(ctn_broken_unwritten, ctn_selftest_args a, 1024) {
	STATIC_SHARED(float[64], fixed);
	DYNAMIC_SHARED(float, dynamic);
	a.out[threadIdx.x] = threadIdx.x % 2 ? fixed[threadIdx.x] : dynamic[threadIdx.x];
}

// The second block must not find what the first one left.
CTN_ENTRY(ctn_broken_left_over, ctn_selftest_args a, 1024) {
	STATIC_SHARED(float[32], s);
	a.out[blockIdx.x * 32 + threadIdx.x] = s[threadIdx.x];
	s[threadIdx.x] = 1;
}

CTN_ENTRY(ctn_broken_no_wait, ctn_selftest_args a, 1024) {
	DYNAMIC_SHARED(float, s);
	cp_async16(s + threadIdx.x * 4, a.x + threadIdx.x * 4);
	cp_async_commit();
	__syncthreads();
	a.out[threadIdx.x] = s[threadIdx.x];
}

CTN_ENTRY(ctn_broken_copy, ctn_selftest_args a, 1024) {
	DYNAMIC_SHARED(float, s);
	cp_async16(s + threadIdx.x * 4 + a.n, a.x + threadIdx.x * 4 + a.m);
}

CTN_ENTRY(ctn_broken_matrix, ctn_selftest_args a, 1024) {
	uint32_t r[4];
	ldmatrix_x4(r, a.x);
	a.out[threadIdx.x] = __uint_as_float(r[0]);
}

CTN_ENTRY(ctn_broken_large_static, ctn_selftest_args a, 1024) {
	STATIC_SHARED(float[6 << 10], s);
	STATIC_SHARED(float[6 << 10], r);
	STATIC_SHARED(float[1], last);
	a.out[threadIdx.x] = s[0] + r[0] + last[0];
}

CTN_ENTRY(ctn_broken_trap, ctn_selftest_args a, 1024) {
	if (threadIdx.x == 3 && blockIdx.x == 1) __trap();
	a.out[threadIdx.x] = 0;
}

extern "C" UNCHECKED void ctn_broken_address(ctn_selftest_args a);
CTN_ENTRY(ctn_broken_address, ctn_selftest_args a, 1024) { a.out[threadIdx.x] = a.y[threadIdx.x]; }

// n steps of 1 KiB of stack each.
static __device__ float deep(const float *x, int n) {
	volatile float keep[256];
	for (int i = 0; i < 256; i++) keep[i] = x[i % 64];
	return n ? deep(x, n - 1) + keep[n % 256] : keep[0];
}

CTN_ENTRY(ctn_broken_stack, ctn_selftest_args a, 1024) { a.out[threadIdx.x] = deep(a.x, a.n); }

extern "C" UNCHECKED void ctn_broken_vector(ctn_selftest_args a);
CTN_ENTRY(ctn_broken_vector, ctn_selftest_args a, 1024) {
	float4 *to = (float4 *)(a.out + 1), v = *(const float4 *)a.x;
	*to = v;
}

extern "C" UNCHECKED void ctn_broken_divide(ctn_selftest_args a);
CTN_ENTRY(ctn_broken_divide, ctn_selftest_args a, 1024) { a.out[threadIdx.x] = 1000 / a.n; }
