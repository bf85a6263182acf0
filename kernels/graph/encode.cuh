// What encode_f32.cu and encode_bf16.cu share: the comparator's layers over small graphs. Eight rows stand for each
// graph, so that what a graph's nodes aggregate from each other never leaves a thread (float32) or a warp (bf16), and a
// block takes its graphs through all layers:
//
//   cu_encode_prepare_*   the table of layer 0's products, the matrices transposed (float32) or rounded (bf16)
//   cu_encode_*           graphs to scores
//   cu_encode_back_*      scores' gradient to the gradient of each layer's rows
//   cu_encode_weights_*   from what those two left, the gradient of all weights
//
// With A the adjacency matrix, A[v][u] = 1 for an edge from u to v and for u = v: y = A h, z = y W + b (+ h), h' =
// relu(z) forward, and backward dh = (A' dz) W' (+ dz), and dW = y' dz.
#ifndef CTN_ENCODE_CUH
#define CTN_ENCODE_CUH
#include "../exec/cuda.cuh"
#include "encode.h"
#include "piece.cuh"

namespace {

constexpr int NODES = CTN_ENCODE_NODES;

__device__ __forceinline__ bool has_relu(const ctn_encode_args &g, int layer) {
	return layer < g.layers - 1 || !g.linear_last;
}
__device__ __forceinline__ const float *matrix(const ctn_encode_args &g, int layer) { return g.w + g.weight[layer]; }

// Element (op, j) of embedding x matrix 0.
__device__ float product_of_op(const ctn_encode_args &g, int op, int j) {
	const float *e = g.w + g.embedding + op * g.width, *m = matrix(g, 0) + j;
	float sum = 0;
#pragma unroll 8
	for (int i = 0; i < g.width; i++) sum += e[i] * m[i * g.width];
	return sum;
}

// A node's operations as counts. Three bits a node, the padding's filled in; a node that is looked for has the lowest
// of its three bits set.
struct counts {
	uint32_t ops;
	__device__ counts(uint64_t packed, int alphabet) {
		int bits = 3 * ctn_packed_nodes(packed);
		ops = ((uint32_t)(packed >> 28) & ((1u << bits) - 1)) | (((alphabet - 1) * 0x249249u) << bits & 0xffffff);
	}
	__device__ static uint32_t spread(uint32_t nodes) {
		nodes = (nodes | nodes << 8) & 0x00f00f;
		nodes = (nodes | nodes << 4) & 0x0c30c3;
		return (nodes | nodes << 2) & 0x249249;
	}
	__device__ int of(int op, uint32_t nodes) const {
		uint32_t differ = ops ^ op * 0x249249u;
		return __popc(~(differ | differ >> 1 | differ >> 2) & nodes);
	}
};

// ---- the gradient of the weights ----------------------------------------------

// Every weight's gradient is a product over rows: of a left factor and the gradient of the layer's rows. A block
// computes a square of one of them over a part of the rows; the last part to arrive adds all parts, in their order.
//
//   layer 0      left: how many of a node's neighbors have each operation, its own operation, one
//   layers > 0   left: what the matrix multiplied; the sum of the gradient's columns is the bias's
//   the head     left: the scores' gradient, right: the means; a row is a graph
struct job {
	int layer, i0, j0;    // layer == layers: the head
	int64_t begin, end;   // rows of this part
	int parts;            // for these rows
	int counter, awaited; // in g.arrived; blocks
	__device__ job(const ctn_encode_args &g, int step) {
		constexpr int TILE = CTN_ENCODE_TILE;
		const int tiles = (g.width + TILE - 1) / TILE;
		int b = blockIdx.x;
		counter = b;
		if (b < tiles) {
			layer = 0, i0 = 0, j0 = b * TILE;
			counter = 0; // the embedding's gradient needs all columns
		} else if ((b -= tiles) < (g.layers - 1) * tiles * tiles) {
			layer = 1 + b / (tiles * tiles), i0 = b / tiles % tiles * TILE, j0 = b % tiles * TILE;
		} else {
			layer = g.layers, i0 = 0, j0 = (b - (g.layers - 1) * tiles * tiles) * TILE;
		}
		const int64_t rows = ctn_size(g.n) * (layer == g.layers ? 1 : NODES);
		parts = (int)ctn_max(1, ctn_min(g.splits, ctn_div_up(rows, CTN_ENCODE_PART_ROWS)));
		awaited = layer ? parts : parts * tiles;
		const int64_t size = ctn_div_up(ctn_div_up(rows, parts), step) * step;
		begin = ctn_min(blockIdx.y * size, rows), end = ctn_min(begin + size, rows);
	}
	__device__ bool idle() const { return (int)blockIdx.y >= parts; }
	__device__ float *part(const ctn_encode_args &g) const {
		return g.parts + (blockIdx.x * g.splits + blockIdx.y) * CTN_ENCODE_PART;
	}
	__device__ bool sums_columns(const ctn_encode_args &g) const {
		return g.has_bias && layer > 0 && layer < g.layers && i0 == 0;
	}
};

// Columns [i, i + N) of a row of layer 0's left factor.
template <int N>
__device__ __forceinline__ void features(int (&out)[N], const ctn_encode_args &g, int64_t row, int64_t end, int i) {
	const uint64_t packed = row < end ? ctn_packed(g.graphs, row / NODES) : 0;
	const int nodes = row < end ? ctn_packed_padded(packed, g.pad) : 0, v = row % NODES, a = g.alphabet;
	const counts ops(packed, a);
	const uint32_t neighbors = counts::spread(ctn_packed_neighbors(packed, v, nodes)),
	               self = v < nodes ? 1u << 3 * v : 0;
#pragma unroll
	for (int q = 0; q < N; q++) {
		const int c = i + q;
		out[q] = c < a ? ops.of(c, neighbors) : c < 2 * a ? ops.of(c - a, self) : c == 2 * a && self;
	}
}

// Waits for no one: says whether all other parts are in memory.
__device__ bool last_to_arrive(const ctn_encode_args &g, const job &b) {
	STATIC_SHARED(int[1], last);
	__threadfence();
	__syncthreads();
	if (threadIdx.x == 0) {
		last[0] = atomicAdd(g.arrived + b.counter, 1) == b.awaited - 1;
		if (last[0]) g.arrived[b.counter] = 0;
	}
	__syncthreads();
	__threadfence();
	return last[0];
}

// The sums over the parts of square `tile`'s elements e to e+3.
__device__ __forceinline__ void total(float (&sum)[4], const ctn_encode_args &g, const job &b, int tile, int e) {
	const float *p = g.parts + tile * g.splits * CTN_ENCODE_PART + e;
#pragma unroll
	for (int q = 0; q < 4; q++) sum[q] = 0;
#pragma unroll 8
	for (int s = 0; s < b.parts; s++) {
		float x[4];
		load4(x, p + (int64_t)s * CTN_ENCODE_PART);
#pragma unroll
		for (int q = 0; q < 4; q++) sum[q] += x[q];
	}
}

// Adds each of eight values over the warp: lane l gets value l/4.
__device__ __forceinline__ float sum_eight(float (&x)[8], int lane) {
#pragma unroll
	for (int n = 4; n; n /= 2) {
		const bool upper = lane & 4 * n;
#pragma unroll
		for (int k = 0; k < n; k++)
			x[k] = (upper ? x[k + n] : x[k]) + __shfl_xor_sync(~0u, upper ? x[k] : x[k + n], 4 * n);
	}
	x[0] += __shfl_xor_sync(~0u, x[0], 2);
	return x[0] + __shfl_xor_sync(~0u, x[0], 1);
}

// One block comes here for each square, and one for layer 0, when all others wait for it: loads go side by side.
__device__ void add_parts(const ctn_encode_args &g, const job &b) {
	constexpr int TILE = CTN_ENCODE_TILE, OPS = CTN_ENCODE_ALPHABET;
	STATIC_SHARED(float[2 * OPS + 1][CTN_ENCODE_WIDTH], sums);
	if (!last_to_arrive(g, b)) return;
	const int w = g.width, a = g.alphabet, lane = threadIdx.x % 32;
	float x[4];
	if (b.layer > 0) {
		float *out = g.g + (b.layer < g.layers ? g.weight[b.layer] : g.head);
		const int rows = b.layer < g.layers ? w : g.heads;
#pragma unroll 2
		for (int e = threadIdx.x * 4; e < TILE * TILE; e += blockDim.x * 4) {
			const int i = b.i0 + e / TILE, j = b.j0 + e % TILE;
			if (i >= rows || j >= w) continue;
			total(x, g, b, blockIdx.x, e);
			store4(out + i * w + j, x);
		}
		if (b.sums_columns(g) && threadIdx.x < TILE / 4 && b.j0 + 4 * (int)threadIdx.x < w) {
			total(x, g, b, blockIdx.x, TILE * TILE + 4 * threadIdx.x);
			store4(g.g + g.bias[b.layer] + b.j0 + 4 * threadIdx.x, x);
		}
		return;
	}
	const int quads = w / 4, quad = threadIdx.x % quads * 4, group = threadIdx.x / quads, groups = blockDim.x / quads;
	if (group < groups)
#pragma unroll 2
		for (int i = group; i < 2 * a + 1; i += groups) {
			total(x, g, b, quad / TILE, i * TILE + quad % TILE);
			store4(&sums[i][quad], x);
		}
	__syncthreads();
	const float *table = g.w + g.embedding;
	if (g.has_bias && (int)threadIdx.x < quads) {
		load4(x, &sums[2 * a][quad]);
		store4(g.g + g.bias[0] + quad, x);
	}
	if (group < groups) // the matrix: embedding' x sums, four rows of four columns a thread
		for (int i = 4 * group; i < w; i += 4 * groups) {
			float out[4][4] = {};
#pragma unroll
			for (int op = 0; op < OPS; op++)
				if (op < a) {
					float e[4];
					load4(e, table + op * w + i);
					load4(x, &sums[op][quad]);
#pragma unroll
					for (int r = 0; r < 4; r++)
#pragma unroll
						for (int q = 0; q < 4; q++) out[r][q] += e[r] * x[q];
				}
#pragma unroll
			for (int r = 0; r < 4; r++) store4(g.g + g.weight[0] + (i + r) * w + quad, out[r]);
		}
#pragma unroll 2
	for (int i = threadIdx.x / 32; i < w; i += blockDim.x / 32) { // the embedding: sums x matrix', a column a warp
		float sum[OPS] = {};
		for (int j = 4 * lane; j < w; j += 128) {
			float m[4];
			load4(m, matrix(g, 0) + i * w + j);
#pragma unroll
			for (int op = 0; op < OPS; op++) {
				if (op < a) {
					load4(x, &sums[op][j]);
#pragma unroll
					for (int q = 0; q < 4; q++) sum[op] += x[q] * m[q];
				}
			}
		}
		const float value = sum_eight(sum, lane);
		const int op = lane / 4;
		if (lane % 4 == 0 && op < a) g.g[g.embedding + op * w + i] = g.residual ? value + sums[a + op][i] : value;
	}
}

} // namespace

#endif
