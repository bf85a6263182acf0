// ctnas-archs: none
// As broken.cu, for exec/hopper.cuh: mistake number m.
#include "../exec/hopper.cuh"
#include "selftest_hopper.h"

static __device__ void barriers(const ctn_selftest_hopper_args &a, bf16 *work, uint64_t *b) {
	if (threadIdx.x == 0) {
		mbarrier_init(b, 1), mbarrier_init(b + 1, 64);
		if (a.m != 0) fence_async();
	}
	__syncthreads();
	if (threadIdx.x == 0 && a.m < 20) {
		const int bytes = a.m == 1 ? 16 : a.m == 2 ? 48 : 32;
		mbarrier_expect(b, bytes);
		bulk_copy(work + (a.m == 3 ? 4 : 0), (const char *)a.x + (a.m == 4 ? 8 : 0), 32, b);
		if (a.m == 5) bulk_copy(work + 8, a.x, 32, b);
		if (a.m == 6) mbarrier_arrive(b);
		if (a.m == 7) b[0]++;
		if (a.m == 8) mbarrier_init(b, 1);
		if (a.m == 12) bulk_copy((void *)b, a.x, 32, b);
	}
	if (a.m == 9) return;
	if (a.m != 10) mbarrier_wait(b, 0);
	if (a.m == 11) mbarrier_wait(b, 0);
	a.out[threadIdx.x] = to_float(work[threadIdx.x % 16]);
	if (a.m == 10) mbarrier_wait(b, 0);
	for (int i = 0; i < 2 && a.m == 13; i++) {
		mbarrier_arrive(b + 1);
		__syncthreads();
	}
	if (a.m == 13) mbarrier_wait(b + 1, 0);
	if (a.m == 14) part_barrier(1 + threadIdx.x / 32, 64);
	if (a.m == 15) mbarrier_wait(b + 2, 0);
}

static __device__ void images(const ctn_selftest_hopper_args &a, bf16 *work, uint64_t *b) {
	if (threadIdx.x) return;
	mbarrier_init(b, 1);
	fence_async();
	const ctn_image_map *map = &a.map;
	bulk_image(work + (a.m == 20 ? 64 : 0), a.m == 21 ? map + 1 : map, 0, a.m == 22 ? -2 : -1, -1, 0,
	           a.m == 23 ? -1 : 0, 0, b);
}

static __device__ void products(const ctn_selftest_hopper_args &a, bf16 *work) {
	float d[32];
	const uint32_t x = shared_address(work), y = x + (a.m == 30 ? 512 : 8192);
	for (int i = threadIdx.x; i < 8192; i += blockDim.x) work[i] = to_bf16(1.0f);
	if (a.m != 31) fence_async();
	__syncthreads();
	if (a.m != 32) wgmma_fence();
	const int stride = a.m == 33 && threadIdx.x == 5 ? 2048 : a.m == 34 ? 128 : 1024;
	wgmma<64, 0, 0>(d, matrix_at(x, 0, stride), matrix_at(y, 0, 1024) ^ (a.m == 35 ? 1ull << 49 : 0), 0);
	if (a.m != 36) wgmma_commit();
	if (a.m == 37) wgmma_wait<1>();
	else if (a.m != 38) wgmma_wait<0>();
	if (a.m == 39) wgmma<64, 0, 0>(d, matrix_at(x, 0, 1024), matrix_at(y, 0, 1024), 1);
	if (a.m == 40 && threadIdx.x < 32) wgmma_wait<0>();
	a.out[threadIdx.x] = d[0];
}

CTN_ENTRY(ctn_broken_hopper, const __grid_constant__ ctn_selftest_hopper_args a, 1024) {
	DYNAMIC_SHARED(bf16, dynamic);
	STATIC_SHARED(uint64_t[3], b);
	bf16 *work = dynamic + ((1024 - shared_address(dynamic) % 1024) % 1024) / 2;
	if (a.m < 20) barriers(a, work, b);
	else if (a.m < 30) images(a, work, b);
	else products(a, work);
}
