// ctnas-archs: 90a
// As selftest.cu, for what exec/hopper.cuh offers.
#include "../exec/hopper.cuh"
#include "selftest_hopper.h"

// The first multiple of 1,024 of a block's dynamic shared memory.
static __device__ bf16 *aligned() {
	DYNAMIC_SHARED(bf16, work);
	return work + ((1024 - shared_address(work) % 1024) % 1024) / 2;
}

// The 16 bytes in which number `column` of a row of 64 lies, as bulk_image leaves them.
static __device__ int swizzled(int row, int column) { return row * 64 + ((column / 8 ^ row % 8) * 8 + column % 8); }

// out (64 x 128) = x y, by one warpgroup: x is 64 x k, y k x 128, k a multiple of 64. Of a transposed one the other
// dimension lies along. Threads bring the operands, so that they are fenced. Shared memory: 25 KiB and 1,024 bytes.
template <int TX, int TY> static __device__ void product(const ctn_selftest_hopper_args &a) {
	bf16 *x = aligned(), *y = x + 64 * 64;
	float d[64];
	for (int k0 = 0; k0 < a.k; k0 += 64) {
		for (int i = threadIdx.x; i < 64 * 64; i += 128) {
			int row = i / 64, column = i % 64;
			x[swizzled(row, column)] = TX ? a.x[(k0 + row) * 64 + column] : a.x[row * a.k + k0 + column];
		}
		for (int i = threadIdx.x; i < 64 * 128; i += 128) {
			int row = i / 64, column = i % 64; // transposed: 64 columns of y after the other
			y[swizzled(row, column)] =
			        TY ? a.y[(k0 + row % 64) * 128 + row / 64 * 64 + column] : a.y[row * a.k + k0 + column];
		}
		fence_async();
		__syncthreads();
		wgmma_fence();
		for (int k = 0; k < 4; k++)
			wgmma<128, TX, TY>(d, matrix_at(shared_address(x) + k * (TX ? 2048 : 32), 0, 1024),
			                   matrix_at(shared_address(y) + k * (TY ? 2048 : 32), 8192, 1024), k0 || k);
		wgmma_commit();
		wgmma_wait<0>();
		__syncthreads();
	}
	int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
	for (int i = 0; i < 64; i++) a.out[(row + i / 2 % 2 * 8) * 128 + i / 4 * 8 + column + i % 2] = d[i];
}

CTN_ENTRY(ctn_selftest_wgmma, const __grid_constant__ ctn_selftest_hopper_args a, 128) { product<0, 0>(a); }
CTN_ENTRY(ctn_selftest_wgmma_x, const __grid_constant__ ctn_selftest_hopper_args a, 128) { product<1, 0>(a); }
CTN_ENTRY(ctn_selftest_wgmma_y, const __grid_constant__ ctn_selftest_hopper_args a, 128) { product<0, 1>(a); }
CTN_ENTRY(ctn_selftest_wgmma_xy, const __grid_constant__ ctn_selftest_hopper_args a, 128) { product<1, 1>(a); }

// out[copy][pixel][64] as floats: what copies of the map bring, k of them, each `pixels` further on within the box of m
// x n pixels whose first is (-1, -1); copy i is moved by (i % 3, i / 3 % 3). Two stages, a warp that copies and one
// that reads. y: 16 bytes that another kind of copy brings; they follow in out. Shared memory: 2 stages and 1,024 bytes.
CTN_ENTRY(ctn_selftest_copies, const __grid_constant__ ctn_selftest_hopper_args a, 64) {
	STATIC_SHARED(uint64_t[5], barrier);
	bf16 *stage = aligned();
	uint64_t *full = barrier, *empty = barrier + 2, *last = barrier + 4;
	if (threadIdx.x == 0) {
		for (int i = 0; i < 2; i++) mbarrier_init(full + i, 1), mbarrier_init(empty + i, 32);
		mbarrier_init(last, 1);
		fence_async();
	}
	__syncthreads();
	if (threadIdx.x < 32) {
		if (threadIdx.x == 0) prefetch_map(&a.map);
		for (int i = 0; i < a.k && threadIdx.x == 0; i++) {
			int s = i % 2, at = i * a.pixels;
			mbarrier_wait(empty + s, (i / 2 & 1) ^ 1);
			mbarrier_expect(full + s, a.pixels * 128);
			bulk_image(stage + s * a.pixels * 64, &a.map, a.c, at % a.n - 1, at / a.n % a.m - 1, at / a.n / a.m, i % 3,
			           i / 3 % 3, full + s);
		}
		__syncwarp();
		return;
	}
	int lane = threadIdx.x - 32;
	for (int i = 0; i < a.k; i++) {
		int s = i % 2;
		mbarrier_wait(full + s, i / 2 & 1);
		for (int j = lane; j < a.pixels * 64; j += 32)
			a.out[i * a.pixels * 64 + j] = to_float(stage[s * a.pixels * 64 + swizzled(j / 64, j % 64)]);
		fence_async(); // the next copy comes after these reads
		mbarrier_arrive(empty + s);
	}
	part_barrier(3, 32);
	if (lane == 0) {
		mbarrier_expect(last, 16);
		bulk_copy(stage, a.y, 16, last);
	}
	mbarrier_wait(last, 0);
	if (lane < 8) a.out[a.k * a.pixels * 64 + lane] = to_float(stage[lane]);
}
