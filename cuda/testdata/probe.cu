// Kernels for the tests of package cuda: an elementwise one, two that need more than 48 KiB of shared memory, one
// without a parameter and one that fails. sim.c does the same on the host.
#include "probe.h"

extern "C" __global__ void probe_saxpy(probe_saxpy_args a) {
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i < a.n) a.y[i] += a.a * a.x[i];
}

// One block: x backwards, through shared memory of n floats.
extern "C" __global__ void probe_reverse(probe_reverse_args a) {
	extern __shared__ float values[];
	for (int i = threadIdx.x; i < a.n; i += blockDim.x) values[i] = a.x[i];
	__syncthreads();
	for (int i = threadIdx.x; i < a.n; i += blockDim.x) a.x[i] = values[a.n - 1 - i];
}

// The same with the first floats in static shared memory.
extern "C" __global__ void probe_reverse_static(probe_reverse_args a) {
	extern __shared__ float values[];
	constexpr int firsts = PROBE_STATIC / sizeof(float);
	__shared__ float first[firsts];
	for (int i = threadIdx.x; i < a.n; i += blockDim.x) (i < firsts ? first : values)[i] = a.x[i];
	__syncthreads();
	for (int i = threadIdx.x; i < a.n; i += blockDim.x) {
		int from = a.n - 1 - i;
		a.x[i] = (from < firsts ? first : values)[from];
	}
}

extern "C" __global__ void probe_nothing() {}

// Writes where no memory is.
extern "C" __global__ void probe_stray(probe_stray_args a) { *a.nowhere = 1; }
