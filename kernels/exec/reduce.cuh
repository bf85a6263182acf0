// What the threads of a block, or the blocks of a launch, work out together. The order of additions is fixed. Every
// thread takes part.
#ifndef CTN_REDUCE_CUH
#define CTN_REDUCE_CUH

// The sum over a warp, the same in every lane.
template <class T> __device__ __forceinline__ T warp_sum(T x) {
	for (int distance = 16; distance; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
	return x;
}

// The sum over a block of BLOCK threads, the same in every thread.
template <int BLOCK> __device__ double block_sum(double x) {
	STATIC_SHARED(double[BLOCK / 32], part);
	x = warp_sum(x);
	if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
	__syncthreads();
	double sum = 0;
	for (int w = 0; w < BLOCK / 32; w++) sum += part[w];
	__syncthreads();
	return sum;
}

// Tells all threads of the block that is the last of `count` to call this for a ticket that it is. That block sees what
// the others wrote before their call, and none of these reads or writes anything any more. *ticket is 0 before and
// after.
__device__ __forceinline__ bool last_of(int32_t *ticket, int count) {
	STATIC_SHARED(int, last);
	__threadfence();
	__syncthreads();
	if (threadIdx.x == 0) {
		last = atomicAdd(ticket, 1) == count - 1;
		if (last) *ticket = 0;
		__threadfence();
	}
	__syncthreads();
	return last;
}

// The same for all blocks of a one-dimensional grid.
__device__ __forceinline__ bool last_block(int32_t *ticket) { return last_of(ticket, (int)gridDim.x); }

#endif
