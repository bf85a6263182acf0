// Kernels that use each thing the simulator offers. They also run on a GPU, where they compare exec/ptx.cuh with its
// twins.
#include "../exec/cuda.cuh"
#include "selftest.h"

// out (m x n) = x (m x k) y (k x n), a tile of T x T for a block of T*T threads.
template <int T> static __device__ void product(const ctn_selftest_args &a) {
	STATIC_SHARED(float[T][T + 1], xs);
	STATIC_SHARED(float[T][T + 1], ys);
	int column = threadIdx.x % T, row = threadIdx.x / T;
	int i = blockIdx.y * T + row, j = blockIdx.x * T + column;
	float sum = 0;
	for (int k0 = 0; k0 < a.k; k0 += T) {
		xs[row][column] = i < a.m && k0 + column < a.k ? a.x[i * a.k + k0 + column] : 0.0f;
		ys[row][column] = k0 + row < a.k && j < a.n ? a.y[(k0 + row) * a.n + j] : 0.0f;
		__syncthreads();
		for (int k = 0; k < T; k++) sum += xs[row][k] * ys[k][column];
		__syncthreads();
	}
	if (i < a.m && j < a.n) a.out[i * a.n + j] = sum;
}

CTN_ENTRY(ctn_selftest_product8, ctn_selftest_args a, 64) { product<8>(a); }
CTN_ENTRY(ctn_selftest_product16, ctn_selftest_args a, 256) { product<16>(a); }

// out[0] += the sum of the n numbers x.
CTN_ENTRY(ctn_selftest_sum, ctn_selftest_args a, 1024) {
	STATIC_SHARED(float[32], part);
	float sum = 0;
	for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < a.n; i += gridDim.x * blockDim.x) sum += __ldg(a.x + i);
	for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
	if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
	__syncthreads();
	if (threadIdx.x >= 32) return;
	sum = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0.0f;
	for (int d = 16; d > 0; d /= 2) sum += __shfl_down_sync(0xffffffffu, sum, d);
	if (threadIdx.x == 0) atomicAdd(a.out, sum);
}

// out (16 x 16) = x (16 x k) y (k x 16), bf16, k a multiple of 16; one warp, which copies a step ahead of the product.
// Shared memory: 2 KiB.
CTN_ENTRY(ctn_selftest_bf16, ctn_selftest_args a, 1024) {
	DYNAMIC_SHARED(bf16, work); // two of x (16 x 16) followed by y (16 x 16)
	const bf16 *x = (const bf16 *)a.x, *y = (const bf16 *)a.y;
	int lane = threadIdx.x, row = lane / 2, half = lane % 2 * 8;
	int tile = (lane % 16) * 16 + lane / 16 * 8; // matrices in the order of the fragments
	float d[2][4] = {};
	auto start = [&](int k0) {
		bf16 *to = work + k0 / 16 % 2 * 512;
		if (k0 < a.k) {
			cp_async16(to + row * 16 + half, x + row * a.k + k0 + half);
			cp_async16(to + 256 + row * 16 + half, y + (k0 + row) * 16 + half);
		}
		cp_async_commit();
	};
	start(0);
	for (int k0 = 0; k0 < a.k; k0 += 16) {
		start(k0 + 16);
		cp_async_wait<1>();
		__syncwarp();
		const bf16 *from = work + k0 / 16 % 2 * 512;
		uint32_t xf[4], yf[4];
		ldmatrix_x4(xf, from + tile);
		ldmatrix_x4_trans(yf, from + 256 + tile);
		mma_m16n8k16_bf16(d[0], xf, {yf[0], yf[1]});
		mma_m16n8k16_bf16(d[1], xf, {yf[2], yf[3]});
		__syncwarp();
	}
	int g = lane / 4, t = lane % 4;
	for (int h = 0; h < 2; h++)
		for (int i = 0; i < 4; i++) a.out[(g + i / 2 * 8) * 16 + h * 8 + t * 2 + i % 2] = d[h][i];
}

// out (16 x 8) = x (16 x k) y (k x 8), k a multiple of 8; one warp.
CTN_ENTRY(ctn_selftest_tf32, ctn_selftest_args a, 1024) {
	int g = threadIdx.x / 4, t = threadIdx.x % 4;
	float d[4] = {};
	for (int k = 0; k < a.k; k += 8) {
		const float *x = a.x + k + t, *y = a.y + (k + t) * 8 + g;
		mma_m16n8k8_tf32(d, {x[g * a.k], x[(g + 8) * a.k], x[g * a.k + 4], x[(g + 8) * a.k + 4]}, {y[0], y[32]});
	}
	for (int i = 0; i < 4; i++) a.out[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i];
}

// out[i] = x[i] to bf16 and back, for n numbers in pairs.
CTN_ENTRY(ctn_selftest_round, ctn_selftest_args a, 1024) {
	int i = 2 * (blockIdx.x * blockDim.x + threadIdx.x);
	if (i + 1 >= a.n) return;
	float2 pair = unpack_bf16(pack_bf16(a.x[i], a.x[i + 1]));
	bool same = to_float(to_bf16(a.x[i])) == pair.x || pair.x != pair.x;
	a.out[i] = same ? pair.x : 0.0f;
	a.out[i + 1] = pair.y;
}

// out[row*64 + thread]: one row for each function of a warp, of a block, and of integers. Two warps.
CTN_ENTRY(ctn_selftest_warp, ctn_selftest_ints a, 1024) {
	const unsigned all = 0xffffffffu;
	int i = threadIdx.x, lane = i % 32, row = 0;
	auto put = [&](int v) { a.out[row++ * 64 + i] = v; };
	put(__shfl_sync(all, i, 5));
	put(__shfl_sync(all, i, 9, 8));
	put(__shfl_up_sync(all, i, 3));
	put(__shfl_down_sync(all, i, 3, 16));
	put(__shfl_xor_sync(all, i, 16));
	put((int)(__shfl_xor_sync(all, (unsigned long long)i << 33, 1) >> 33));
	put((int)__ballot_sync(all, lane % 3 == 0));
	put(__any_sync(all, i == 40));
	put(__all_sync(all, i < 32));
	put(lane < 8 ? (int)__ballot_sync(0xffu, lane & 1)
	             : (int)__ballot_sync(0xffffff00u, lane & 2)); // two groups of one warp
	put(__syncthreads_count(i % 5 == 0));
	put(__syncthreads_or(i == 63));
	put(__syncthreads_and(i < 63));
	put(__popc(i * 0x01010101u) + 100 * __clz(i) + 10000 * __ffs(i));
	put((int)__brev(i));
	put((int)__umulhi(i * 0x10001000u, 0x12345678u));
	put((__activemask() >> lane) & 1);
}

// Every thread on the n numbers out: sum, minimum, maximum, and a count by compare-and-swap.
CTN_ENTRY(ctn_selftest_atomic, ctn_selftest_ints a, 1024) {
	int i = (blockIdx.x * blockDim.x + threadIdx.x) * 7 % 1000;
	atomicAdd(&a.out[0], i);
	atomicMin(&a.out[1], i);
	atomicMax(&a.out[2], i);
	for (int old = a.out[3], seen; (seen = atomicCAS(&a.out[3], old, old + 1)) != old;) old = seen;
	atomicAdd((unsigned long long *)(a.out + 4), 1ull << 20);
	atomicExch(&a.out[6], 12);
	atomicAdd((float *)(a.out + 7), 0.5f);
}

// out[i] = (i + n) mod the block's size, by n steps to the left with two barriers each.
CTN_ENTRY(ctn_selftest_rotate, ctn_selftest_ints a, 1024) {
	STATIC_SHARED(int[1024], s);
	int v = threadIdx.x;
	for (int step = 0; step < a.n; step++) {
		s[threadIdx.x] = v;
		__syncthreads();
		v = s[(threadIdx.x + 1) % blockDim.x];
		__syncthreads();
	}
	a.out[threadIdx.x] = v;
}

// The same within each warp, by shuffles.
CTN_ENTRY(ctn_selftest_rotate_warp, ctn_selftest_ints a, 1024) {
	int v = threadIdx.x % 32;
	for (int step = 0; step < a.n; step++) v = __shfl_sync(0xffffffffu, v, threadIdx.x % 32 + 1);
	a.out[threadIdx.x] = v;
}
