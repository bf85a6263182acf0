// The k largest. Elements are keys, of which no two are equal, so the result does not depend on the order of atomic
// additions. Launches of cu_topk_digit find the k-th largest key, digit after digit from the highest; cu_topk_collect
// takes it and what is above it, and cu_topk_sort orders these and makes the state ready for the next run. Each launch
// but the last reads n floats once, from L2 up to some millions.
#include "../exec/cuda.cuh"
#include "../exec/reduce.cuh"
#include "topk.h"

namespace {

constexpr int BINS = CTN_TOPK_BINS, OWN = BINS / CTN_DENSE_BLOCK; // bins of a thread

// The largest digit at which, with the bins above it, `left` keys or more are counted. It becomes a part of the least
// key. count is cleared.
__device__ void choose(const ctn_topk_args &g, int digit_bits) {
	STATIC_SHARED(int32_t[CTN_DENSE_BLOCK], above); // keys in the bins of a thread and of those behind it
	ctn_topk_state *state = g.state;
	const int t = threadIdx.x, left = state->left, shift = state->shift - digit_bits;
	int32_t own[OWN], sum = 0;
#pragma unroll
	for (int b = 0; b < OWN; b++) {
		own[b] = (int32_t)g.count[t * OWN + b];
		g.count[t * OWN + b] = 0;
		sum += own[b];
	}
	above[t] = sum;
	__syncthreads();
	for (int distance = 1; distance < CTN_DENSE_BLOCK; distance *= 2) {
		int32_t other = t + distance < CTN_DENSE_BLOCK ? above[t + distance] : 0;
		__syncthreads();
		above[t] += other;
		__syncthreads();
	}
	int32_t before = above[t] - sum;
	if (before >= left || above[t] < left) return; // not among this thread's
	int b = OWN - 1;
#pragma unroll
	for (int q = OWN - 1; q > 0; q--)
		if (b == q && before + own[q] < left) before += own[q], b = q - 1;
	int32_t count = 0;
#pragma unroll
	for (int q = 0; q < OWN; q++)
		if (b == q) count = own[q];
	state->least |= (uint64_t)(t * OWN + b) << shift;
	state->left = left - before;
	state->shift =
	        count == left - before ? 0 : shift; // all of the bin belong to the k: lower digits make no difference
}

} // namespace

// Grid: elements, 8 a thread. Counts the next digit of the keys that begin with the digits found; the block that ends
// last chooses.
CTN_ENTRY(cu_topk_digit, const ctn_topk_args g, CTN_DENSE_BLOCK) {
	STATIC_SHARED(uint32_t[BINS], count);
	const int found = g.state->shift;
	if (!found) return;
	const uint64_t least = g.state->least;
	const int digit_bits = (int)ctn_min(found, CTN_TOPK_DIGIT), shift = found - digit_bits;
	for (int b = threadIdx.x; b < BINS; b += CTN_DENSE_BLOCK) count[b] = 0;
	__syncthreads();
	const int64_t first = (int64_t)blockIdx.x * CTN_DENSE_BLOCK * CTN_TOPK_EACH + threadIdx.x;
#pragma unroll
	for (int q = 0; q < CTN_TOPK_EACH; q++) {
		int64_t i = first + q * CTN_DENSE_BLOCK;
		if (i >= g.n) break;
		uint64_t key = ctn_topk_key(&g, i);
		if (key >> found == least >> found) atomicAdd(&count[(key >> shift) & ((1u << digit_bits) - 1)], 1u);
	}
	__syncthreads();
	for (int b = threadIdx.x; b < BINS; b += CTN_DENSE_BLOCK)
		if (count[b]) atomicAdd(&g.count[b], count[b]);
	if (last_block(&g.state->ticket)) choose(g, digit_bits);
}

// Grid: elements, 8 a thread. Collects the k keys from the least on, in any order.
CTN_ENTRY(cu_topk_collect, const ctn_topk_args g, CTN_DENSE_BLOCK) {
	const uint64_t least = g.state->least;
	const int64_t first = (int64_t)blockIdx.x * CTN_DENSE_BLOCK * CTN_TOPK_EACH + threadIdx.x;
#pragma unroll
	for (int q = 0; q < CTN_TOPK_EACH; q++) {
		int64_t i = first + q * CTN_DENSE_BLOCK;
		if (i >= g.n) break;
		uint64_t key = ctn_topk_key(&g, i);
		if (key >= least) g.survivors[atomicAdd(&g.state->written, 1)] = key;
	}
}

// One block: a bitonic sort in shared memory, of a power of two of keys.
CTN_ENTRY(cu_topk_sort, const ctn_topk_args g, CTN_TOPK_SORT_BLOCK) {
	STATIC_SHARED(uint64_t[CTN_TOPK_MAX], key);
	int size = 1;
	while (size < g.k) size *= 2;
	for (int i = threadIdx.x; i < size; i += CTN_TOPK_SORT_BLOCK) key[i] = i < g.k ? g.survivors[i] : 0;
	__syncthreads();
	for (int run = 2; run <= size; run *= 2)
		for (int distance = run / 2; distance; distance /= 2) {
			for (int pair = threadIdx.x; pair < size / 2; pair += CTN_TOPK_SORT_BLOCK) {
				int i = pair / distance * 2 * distance + pair % distance, j = i + distance;
				bool descending = (i & run) == 0;
				uint64_t a = key[i], b = key[j];
				if ((a < b) == descending) key[i] = b, key[j] = a;
			}
			__syncthreads();
		}
	for (int i = threadIdx.x; i < g.k; i += CTN_TOPK_SORT_BLOCK) {
		int64_t at = ctn_topk_index(&g, key[i]);
		g.index[i] = (int32_t)at;
		g.value[i] = g.in[at];
	}
	if (threadIdx.x == 0) *g.state = {0, (int32_t)g.k, 32 + g.index_bits, 0, 0};
}
