// Going through a tensor pixel by pixel. A block has `block` pixels and `groups` vectors of channels, 16 bytes each;
// blockIdx.x counts the channels, blockIdx.y the pixels. A thread keeps its channels and has every strips-th pixel, so
// that what is one a channel stays in registers, and neighbours read what lies side by side. Dynamic shared memory is
// for the sums: 4 THREADS (3 N + 1) bytes.
#ifndef CTN_TENSOR_SWEEP_CUH
#define CTN_TENSOR_SWEEP_CUH
#include "load.cuh"
#include "sweep.h"

template <class T> struct sweep {
	static constexpr int N = LANES<T>;
	int groups, group, strips, strip;
	int c0, c, n;   // the block's first channel; the thread's, of which n exist
	int begin, end; // pixels of the block
	int first;      // the thread's first, end where it has none
	__device__ __forceinline__ sweep(int64_t groups_, int64_t channels, int64_t block, int64_t pixels) {
		groups = (int)groups_, strips = CTN_SWEEP_THREADS / groups;
		group = threadIdx.x % groups, strip = threadIdx.x / groups;
		c0 = blockIdx.x * groups * N, c = c0 + group * N;
		n = (int)ctn_min(N, channels - c);
		begin = (int)(blockIdx.y * block), end = (int)ctn_min(begin + block, pixels);
		first = n > 0 && strip < strips ? begin + strip : end;
	}
	// Leaves the block's sums in part blockIdx.y of rows that are `ld` apart, and what `norm` makes of all parts.
	template <class Sums>
	__device__ __forceinline__ void leave(const Sums &sums, int64_t channels, float *stats, int64_t ld,
	                                      const ctn_norm *norm) const {
		DYNAMIC_SHARED(float, shared);
		leave_sums<Sums, N>(sums, group, groups, strip, strips, c0, (int)channels - c0, stats, ld, norm, blockIdx.y,
		                    blockIdx.x, shared);
	}
	// Adds v over the strips, in order; the sum is in the threads of strip 0.
	__device__ __forceinline__ void add_strips(float (&v)[N]) const {
		DYNAMIC_SHARED(float, shared);
		if (strip < strips) {
#pragma unroll
			for (int i = 0; i < N; i++) shared[(strip * groups + group) * N + i] = v[i];
		}
		__syncthreads();
		if (strip == 0) {
			for (int s = 1; s < strips; s++)
#pragma unroll
				for (int i = 0; i < N; i++) v[i] += shared[(s * groups + group) * N + i];
		}
	}
};

#endif
