// The comparator's layers over small graphs. Eight rows stand for each graph, so that what a graph's nodes tell each other never leaves a thread
// (float32) or a warp (bf16), and a block takes its graphs through all layers:
//
//   cu_encode_prepare_*   the table of layer 0's products, the matrices transposed (float32) or rounded (bf16)
//   cu_encode_*           graphs to scores
//   cu_encode_back_*      scores' gradient to the gradient of each layer's rows
//   cu_encode_weights_*   from what those two left, the gradient of all weights
//
// With A the heard nodes as a matrix, a node itself included: y = A h, z = y W + b (+ h), h' = relu(z) on the way forward; on the way back
// dh = (A' dz) W' (+ dz), and dW = y' dz.
#include "../exec/cuda.cuh"
#include "encode.h"
#include "piece.cuh"

namespace {

constexpr int NODES = CTN_ENCODE_NODES;

__device__ __forceinline__ bool has_relu(const ctn_encode_args &g, int layer) { return layer < g.layers - 1 || !g.linear_last; }
__device__ __forceinline__ const float *matrix(const ctn_encode_args &g, int layer) { return g.w + g.weight[layer]; }

// ---- prepare ------------------------------------------------------------------

// Element (op, j) of embedding x matrix 0.
__device__ float product_of_op(const ctn_encode_args &g, int op, int j) {
	const float *e = g.w + g.embedding + op * g.width, *m = matrix(g, 0) + j;
	float sum = 0;
#pragma unroll 8
	for (int i = 0; i < g.width; i++) sum += e[i] * m[i * g.width];
	return sum;
}

// ---- float32 ------------------------------------------------------------------

struct place {
	int slot, column; // the graph's place in the block's tile
	bool own;         // false: a thread that is left over, it reads what the first ones read
	int64_t graph;
	uint64_t packed; // 0: no graph
	int nodes;
	__device__ place(const ctn_encode_args &g, int64_t n) {
		int threads = g.width / 4, per = blockDim.x / threads;
		slot = threadIdx.x / threads, column = threadIdx.x % threads * 4;
		own = slot < per;
		if (!own) slot = 0;
		graph = (int64_t)blockIdx.x * per + slot;
		packed = graph < n ? ctn_packed(g.graphs, graph) : 0;
		nodes = graph < n ? ctn_packed_padded(packed, g.pad) : 0;
	}
};

// x = A x, and x = A' x: rows that are still to be read change last. The edges are the lowest bits of a packed graph.
__device__ __forceinline__ void hear(piece &x, uint32_t edges) {
#pragma unroll
	for (int v = NODES - 1; v > 0; v--)
#pragma unroll
		for (int u = 0; u < v; u++)
			if (edges >> (v * (v - 1) / 2 + u) & 1)
#pragma unroll
				for (int c = 0; c < 4; c++) x[v][c] += x[u][c];
}
__device__ __forceinline__ void tell(piece &x, uint32_t edges) {
#pragma unroll
	for (int u = 0; u < NODES - 1; u++)
#pragma unroll
		for (int v = u + 1; v < NODES; v++)
			if (edges >> (v * (v - 1) / 2 + u) & 1)
#pragma unroll
				for (int c = 0; c < 4; c++) x[u][c] += x[v][c];
}

// ---- bf16 ---------------------------------------------------------------------

// A warp has a tile of 16 rows, two graphs: a for rows 0 to 7, b for 8 to 15. Tensor cores do the hearing, too: A of both graphs is one
// 16 x 16 matrix of zeros and ones. Lane l is at row l/4 of each graph and at columns 2(l%4) and 2(l%4)+1 of every eight.
struct pair {
	int lane, row, column;
	bool here[2]; // the lane's row belongs to a graph
	int64_t graph;
	int nodes[2];
	uint64_t packed[2];
	__device__ pair(const ctn_encode_args &g, int64_t n, int64_t tile) {
		lane = threadIdx.x % 32, row = lane / 4, column = lane % 4 * 2;
		graph = 2 * tile;
#pragma unroll
		for (int s = 0; s < 2; s++) {
			packed[s] = graph + s < n ? ctn_packed(g.graphs, graph + s) : 0;
			nodes[s] = graph + s < n ? ctn_packed_padded(packed[s], g.pad) : 0;
			here[s] = row < nodes[s];
		}
	}
	// A, and A', as a left factor.
	__device__ void hear(uint32_t (&m)[4]) const {
		m[0] = ones(ctn_packed_heard(packed[0], row, nodes[0]) >> column), m[1] = 0;
		m[3] = ones(ctn_packed_heard(packed[1], row, nodes[1]) >> column), m[2] = 0;
	}
	__device__ void tell(uint32_t (&m)[4]) const {
		m[0] = ones(told(0)), m[1] = 0;
		m[3] = ones(told(1)), m[2] = 0;
	}

private:
	__device__ static uint32_t ones(uint32_t bits) { return (bits & 1 ? 0x3f80u : 0) | (bits & 2 ? 0x3f800000u : 0); }
	__device__ uint32_t told(int s) const {
		return (ctn_packed_heard(packed[s], column, nodes[s]) >> row & 1) | (ctn_packed_heard(packed[s], column + 1, nodes[s]) >> row & 1) << 1;
	}
};

// A node's operations as counts. Three bits a node, the padding's filled in; a node that is looked for has the lowest of its three bits set.
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

__device__ __forceinline__ uint32_t pack_counts(int low, int high) { return pack_bf16((float)low, (float)high); }

// y = m x tile (16 x w), as a left factor of the product that follows.
template <int W> __device__ __forceinline__ void mix(uint32_t (&y)[W / 16][4], const uint32_t (&m)[4], const bf16 *tile, int pitch, int w, int lane) {
#pragma unroll
	for (int c = 0; c < W / 16; c++) {
		if (16 * c >= w) break;
		uint32_t r[4];
		ldmatrix_x4_trans(r, tile + lane % 16 * pitch + 16 * c + lane / 16 * 8);
		const uint32_t left[2] = {r[0], r[1]}, right[2] = {r[2], r[3]};
		float a[4] = {}, b[4] = {};
		mma_m16n8k16_bf16(a, m, left);
		mma_m16n8k16_bf16(b, m, right);
		y[c][0] = pack_bf16(a[0], a[1]), y[c][1] = pack_bf16(a[2], a[3]);
		y[c][2] = pack_bf16(b[0], b[1]), y[c][3] = pack_bf16(b[2], b[3]);
	}
}

// Stores a 16 x 16 left factor, rows w apart. Neighbouring lanes exchange halves, so that a row's 32 bytes are written at once.
__device__ __forceinline__ void store_factor(bf16 *out, int w, const uint32_t (&a)[4], int lane) {
	const bool odd = lane & 1;
#pragma unroll
	for (int half = 0; half < 2; half++) {
		uint32_t mine = odd ? a[half + 2] : a[half], other = __shfl_xor_sync(~0u, odd ? a[half] : a[half + 2], 1);
		*(uint2 *)(out + (lane / 4 + 8 * half) * w + (odd ? 8 : 0) + lane % 4 / 2 * 4) = odd ? make_uint2(other, mine) : make_uint2(mine, other);
	}
}

__device__ __forceinline__ void store_tile(bf16 *out, const bf16 *tile, int pitch, int w, int lane) {
	for (int e = lane; e < 2 * w; e += 32) {
		int row = e / (w / 8), column = e % (w / 8) * 8;
		*(uint4 *)(out + row * w + column) = *(const uint4 *)(tile + row * pitch + column);
	}
}

// Which ReLUs are open: a lane's four elements of every eight columns, 64 columns a word.
__device__ __forceinline__ uint32_t *open_word(const ctn_encode_args &g, int layer, int64_t tile, int column, int lane) {
	int words = (g.width + 63) / 64;
	return g.positive + ((layer * (g.rows / 16) + tile) * words + column / 64) * 32 + lane;
}

// The width's class sets the registers, the panel of a matrix in shared memory the barriers. Products are summed in two halves: with few graphs
// their time is that of one product after the other.
template <int W> constexpr int PANEL = W > 128 ? 16 : 32;

template <int W> __device__ __forceinline__ void encode_bf16(const ctn_encode_args &g) {
	constexpr int P = PANEL<W>;
	DYNAMIC_SHARED(bf16, shared);
	const int w = g.width, pitch = w + 8, warps = blockDim.x / 32, panels = (w + P - 1) / P, total = (g.layers - 1) * panels;
	const int64_t n = ctn_size(g.n), t = (int64_t)blockIdx.x * warps + threadIdx.x / 32;
	if ((int64_t)blockIdx.x * warps * 2 >= n) return;
	bf16 *tile = shared + 2 * w * (P + 8) + threadIdx.x / 32 * 16 * pitch;
	auto load = [&](int q) { // columns of a matrix, all its rows
		const bf16 *from = (const bf16 *)g.matrices + q / panels * w * w + q % panels * P;
		bf16 *to = shared + q % 2 * w * (P + 8);
		const int pieces = (w - q % panels * P < P ? w - q % panels * P : P) / 8;
		for (int e = threadIdx.x; e < w * pieces; e += blockDim.x) cp_async16(to + e / pieces * (P + 8) + e % pieces * 8, from + e / pieces * w + e % pieces * 8);
		cp_async_commit();
	};
	if (total > 0) load(0);

	const pair p(g, n, t);
	uint32_t open = 0;
	// What follows a product: four elements of eight columns from `column` on.
	auto finish = [&](int layer, float (&z)[4], int column, bool residual) {
		float2 b = g.has_bias ? *(const float2 *)(g.w + g.bias[layer] + column + p.column) : make_float2(0, 0);
#pragma unroll
		for (int s = 0; s < 2; s++) {
			uint32_t *at = (uint32_t *)(tile + (p.row + 8 * s) * pitch + column + p.column);
			float x = z[2 * s] + b.x, y = z[2 * s + 1] + b.y;
			if (residual) {
				float2 old = unpack_bf16(*at);
				x += old.x, y += old.y;
			}
			bool keep_x = p.here[s] && (x > 0 || !has_relu(g, layer)), keep_y = p.here[s] && (y > 0 || !has_relu(g, layer));
			*at = pack_bf16(keep_x ? x : 0, keep_y ? y : 0);
			open |= ((uint32_t)keep_x | (uint32_t)keep_y << 1) << (column / 8 % 8 * 4 + 2 * s);
		}
		if (column % 64 == 56 || column + 8 == w) {
			if (g.positive) *open_word(g, layer, t, column, p.lane) = open;
			open = 0;
		}
	};

	// Layer 0: the number of times a node hears each operation, and its own operation, times the table of products and, for the residual, the
	// embedding.
	{
		uint32_t a[4];
#pragma unroll
		for (int s = 0; s < 2; s++) {
			const counts ops(p.packed[s], g.alphabet);
			const uint32_t heard = counts::spread(ctn_packed_heard(p.packed[s], p.row, p.nodes[s])), self = p.here[s] ? 1u << 3 * p.row : 0;
			a[s] = pack_counts(ops.of(p.column, heard), ops.of(p.column + 1, heard));
			a[s + 2] = pack_counts(ops.of(p.column, self), ops.of(p.column + 1, self));
		}
		for (int column = 0; column < w; column += 8) {
			uint2 v = ((const uint2 *)g.table)[column / 8 * 32 + p.lane];
			const uint32_t b[2] = {v.x, v.y};
			float z[4] = {};
			mma_m16n8k16_bf16(z, a, b);
			finish(0, z, column, false);
		}
	}

	uint32_t m[4], y[W / 16][4];
	p.hear(m);
	for (int q = 0; q < total; q++) {
		const int layer = 1 + q / panels, n0 = q % panels * P;
		cp_async_wait<0>();
		__syncthreads();
		if (q + 1 < total) load(q + 1);
		if (n0 == 0) {
			mix<W>(y, m, tile, pitch, w, p.lane);
			__syncwarp();
			if (g.kept) {
				bf16 *out = (bf16 *)g.kept + ((layer - 1) * g.rows + 16 * t) * w;
#pragma unroll
				for (int c = 0; c < W / 16; c++)
					if (16 * c < w) store_factor(out + 16 * c, w, y[c], p.lane);
			}
		}
		const bf16 *panel = shared + q % 2 * w * (P + 8) + p.lane % 16 * (P + 8) + p.lane / 16 * 8;
#pragma unroll 1
		for (int j = 0; j < P && n0 + j < w; j += 16) {
			float left[2][4] = {}, right[2][4] = {};
#pragma unroll
			for (int c = 0; c < W / 16; c++) {
				if (16 * c >= w) break;
				uint32_t r[4];
				ldmatrix_x4_trans(r, panel + 16 * c * (P + 8) + j);
				const uint32_t b0[2] = {r[0], r[1]}, b1[2] = {r[2], r[3]};
				mma_m16n8k16_bf16(left[c % 2], y[c], b0);
				mma_m16n8k16_bf16(right[c % 2], y[c], b1);
			}
#pragma unroll
			for (int q = 0; q < 4; q++) left[0][q] += left[1][q], right[0][q] += right[1][q];
			finish(layer, left[0], n0 + j, g.residual);
			finish(layer, right[0], n0 + j + 8, g.residual);
		}
	}
	__syncwarp();

	// The mean over each graph's nodes, two columns a lane, and the head.
	float dot[2][CTN_ENCODE_HEADS] = {};
	for (int column = 2 * p.lane; column < w; column += 64)
#pragma unroll
		for (int s = 0; s < 2; s++) {
			float2 sum = make_float2(0, 0);
#pragma unroll
			for (int v = 0; v < NODES; v++) {
				float2 x = unpack_bf16(*(const uint32_t *)(tile + (8 * s + v) * pitch + column));
				sum.x += x.x, sum.y += x.y;
			}
			float scale = 1.0f / max(1, p.nodes[s]);
			sum.x *= scale, sum.y *= scale;
			if (g.mean && p.graph + s < n) *(uint32_t *)((bf16 *)g.mean + (p.graph + s) * w + column) = pack_bf16(sum.x, sum.y);
#pragma unroll
			for (int h = 0; h < CTN_ENCODE_HEADS; h++)
				if (h < g.heads) {
					float2 f = *(const float2 *)(g.w + g.head + h * w + column);
					dot[s][h] += sum.x * f.x + sum.y * f.y;
				}
		}
#pragma unroll
	for (int s = 0; s < 2; s++)
#pragma unroll
		for (int h = 0; h < CTN_ENCODE_HEADS; h++) {
			float sum = dot[s][h];
#pragma unroll
			for (int by = 16; by; by /= 2) sum += __shfl_xor_sync(~0u, sum, by);
			if (p.lane == 0 && h < g.heads && p.graph + s < n) g.score[(p.graph + s) * g.heads + h] = sum;
		}
}

template <int W> __device__ __forceinline__ void back_bf16(const ctn_encode_args &g) {
	constexpr int P = PANEL<W>;
	DYNAMIC_SHARED(bf16, shared);
	const int w = g.width, pitch = w + 8, warps = blockDim.x / 32, panels = (w + P - 1) / P, total = (g.layers - 1) * panels;
	const int64_t n = ctn_size(g.n), t = (int64_t)blockIdx.x * warps + threadIdx.x / 32;
	if ((int64_t)blockIdx.x * warps * 2 >= n) return;
	bf16 *tile = shared + 2 * P * pitch + threadIdx.x / 32 * 16 * pitch;
	auto load = [&](int q) { // rows of a matrix, that of the last layer first
		const int rows = w - q % panels * P < P ? w - q % panels * P : P;
		const bf16 *from = (const bf16 *)g.matrices + (g.layers - 2 - q / panels) * w * w + q % panels * P * w;
		bf16 *to = shared + q % 2 * P * pitch;
		for (int e = threadIdx.x; e < rows * (w / 8); e += blockDim.x) cp_async16(to + e / (w / 8) * pitch + e % (w / 8) * 8, from + e * 8);
		cp_async_commit();
	};
	if (total > 0) load(0);

	const pair p(g, n, t);
	uint32_t open = 0;
	// Through the ReLU of a layer: four elements of eight columns from `column` on.
	auto finish = [&](int layer, float (&z)[4], int column, bool residual) {
		if (column % 64 == 0) open = has_relu(g, layer) ? *open_word(g, layer, t, column, p.lane) : ~0u;
#pragma unroll
		for (int s = 0; s < 2; s++) {
			uint32_t *at = (uint32_t *)(tile + (p.row + 8 * s) * pitch + column + p.column);
			float x = z[2 * s], y = z[2 * s + 1];
			if (residual) {
				float2 old = unpack_bf16(*at);
				x += old.x, y += old.y;
			}
			uint32_t bits = open >> (column / 8 % 8 * 4 + 2 * s);
			*at = pack_bf16(bits & 1 ? x : 0, bits & 2 ? y : 0);
		}
	};

	float d[2][CTN_ENCODE_HEADS];
#pragma unroll
	for (int s = 0; s < 2; s++)
#pragma unroll
		for (int h = 0; h < CTN_ENCODE_HEADS; h++)
			d[s][h] = p.here[s] && h < g.heads ? g.dscore[(p.graph + s) * g.heads + h] / p.nodes[s] : 0;
	for (int column = 0; column < w; column += 8) {
		float z[4] = {};
#pragma unroll
		for (int h = 0; h < CTN_ENCODE_HEADS; h++)
			if (h < g.heads) {
				float2 f = *(const float2 *)(g.w + g.head + h * w + column + p.column);
				z[0] += d[0][h] * f.x, z[1] += d[0][h] * f.y, z[2] += d[1][h] * f.x, z[3] += d[1][h] * f.y;
			}
		finish(g.layers - 1, z, column, false);
	}

	uint32_t m[4], y[W / 16][4];
	p.tell(m);
	auto store = [&](int layer) { store_tile((bf16 *)g.drows + (layer * g.rows + 16 * t) * w, tile, pitch, w, p.lane); };
	for (int q = 0; q < total; q++) {
		const int layer = g.layers - 1 - q / panels, i0 = q % panels * P;
		cp_async_wait<0>();
		__syncthreads();
		if (q + 1 < total) load(q + 1);
		if (i0 == 0) {
			store(layer);
			mix<W>(y, m, tile, pitch, w, p.lane);
			__syncwarp();
		}
		const bf16 *panel = shared + q % 2 * P * pitch + (p.lane / 16 * 8 + p.lane % 8) * pitch + p.lane / 8 % 2 * 8;
#pragma unroll 1
		for (int i = 0; i < P && i0 + i < w; i += 16) {
			float left[2][4] = {}, right[2][4] = {};
#pragma unroll
			for (int c = 0; c < W / 16; c++) {
				if (16 * c >= w) break;
				uint32_t r[4];
				ldmatrix_x4(r, panel + i * pitch + 16 * c);
				const uint32_t b0[2] = {r[0], r[1]}, b1[2] = {r[2], r[3]};
				mma_m16n8k16_bf16(left[c % 2], y[c], b0);
				mma_m16n8k16_bf16(right[c % 2], y[c], b1);
			}
#pragma unroll
			for (int q = 0; q < 4; q++) left[0][q] += left[1][q], right[0][q] += right[1][q];
			finish(layer - 1, left[0], i0 + i, g.residual);
			finish(layer - 1, right[0], i0 + i + 8, g.residual);
		}
	}
	__syncwarp();
	store(0);
}

// ---- the gradient of the weights ----------------------------------------------

// Every weight's gradient is a product over rows: of a left factor and the gradient of the layer's rows. A block computes a square of one of
// them over a part of the rows; the last part to arrive adds all parts, in their order.
//
//   layer 0      left: how often a node hears each operation, its own operation, one
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
	__device__ float *part(const ctn_encode_args &g) const { return g.parts + (blockIdx.x * g.splits + blockIdx.y) * CTN_ENCODE_PART; }
	__device__ bool sums_columns(const ctn_encode_args &g) const { return g.has_bias && layer > 0 && layer < g.layers && i0 == 0; }
};

// Columns [i, i + N) of a row of layer 0's left factor.
template <int N> __device__ __forceinline__ void features(int (&out)[N], const ctn_encode_args &g, int64_t row, int64_t end, int i) {
	const uint64_t packed = row < end ? ctn_packed(g.graphs, row / NODES) : 0;
	const int nodes = row < end ? ctn_packed_padded(packed, g.pad) : 0, v = row % NODES, a = g.alphabet;
	const counts ops(packed, a);
	const uint32_t heard = counts::spread(ctn_packed_heard(packed, v, nodes)), self = v < nodes ? 1u << 3 * v : 0;
#pragma unroll
	for (int q = 0; q < N; q++) {
		const int c = i + q;
		out[q] = c < a ? ops.of(c, heard) : c < 2 * a ? ops.of(c - a, self) : c == 2 * a && self;
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
		for (int k = 0; k < n; k++) x[k] = (upper ? x[k + n] : x[k]) + __shfl_xor_sync(~0u, upper ? x[k] : x[k + n], 4 * n);
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

// Grid: 32 columns of the table a block, then squares of 32 of the matrices. Latency: w multiplications one after the other.
extern "C" __global__ void __launch_bounds__(256) cu_encode_prepare_f32(const ctn_encode_args g) {
	STATIC_SHARED(float[32][33], square);
	const int w = g.width, squares = (w + 31) / 32, x = threadIdx.x % 32, y = threadIdx.x / 32;
	int b = blockIdx.x;
	if (b < squares) {
		int j = 32 * b + x;
		if (j < w && y < g.alphabet) ((float *)g.table)[y * w + j] = product_of_op(g, y, j);
		return;
	}
	b -= squares;
	const int layer = 1 + b / (squares * squares), i0 = b / squares % squares * 32, j0 = b % squares * 32;
	const float *in = matrix(g, layer);
	float *out = (float *)g.matrices + (layer - 1) * w * w;
	for (int i = y; i < 32; i += 8)
		if (i0 + i < w && j0 + x < w) square[i][x] = in[(i0 + i) * w + j0 + x];
	__syncthreads();
	for (int j = y; j < 32; j += 8)
		if (j0 + j < w && i0 + x < w) out[(j0 + j) * w + i0 + x] = square[x][j];
}

// Grid: 32 columns of the table a block, then 1024 elements of the matrices. The table is a right factor of 16 rows, the products' eight and, for
// the residual, the embedding's, in the order of a warp's registers.
extern "C" __global__ void __launch_bounds__(256) cu_encode_prepare_bf16(const ctn_encode_args g) {
	const int w = g.width, pieces = (w + 31) / 32;
	int b = blockIdx.x;
	if (b < pieces) {
		int j = 32 * b + threadIdx.x % 32, op = threadIdx.x / 32;
		if (j >= w) return;
		bf16 *at = (bf16 *)g.table + (j / 8 * 32 + j % 8 * 4 + op / 2) * 4 + op % 2;
		at[0] = to_bf16(op < g.alphabet ? product_of_op(g, op, j) : 0);
		at[2] = to_bf16(op < g.alphabet && g.residual ? g.w[g.embedding + op * w + j] : 0);
		return;
	}
	int e = (b - pieces) * 1024 + threadIdx.x * 4;
	if (e >= (g.layers - 1) * w * w) return;
	float4 v = *(const float4 *)(matrix(g, 1 + e / (w * w)) + e % (w * w));
	*(uint2 *)((bf16 *)g.matrices + e) = make_uint2(pack_bf16(v.x, v.y), pack_bf16(v.z, v.w));
}

// Grid: blockDim / (w/4) graphs a block. Bound by float32 arithmetic: 8 w² (layers-1) multiplications a graph.
extern "C" __global__ void __launch_bounds__(CTN_ENCODE_BLOCK, 2) cu_encode_f32(const ctn_encode_args g) {
	DYNAMIC_SHARED(float, shared);
	const int w = g.width, threads = w / 4, per = blockDim.x / threads;
	const int64_t n = ctn_size(g.n), first = (int64_t)blockIdx.x * per;
	if (first >= n) return;
	const place p(g, n);
	float *slab = shared, *tile = shared + 2 * CTN_PIECE_SLAB * w, *rows = tile + p.slot * NODES * w;
	const int64_t graphs = g.rows / NODES;
	piece h, y;
#pragma unroll
	for (int v = 0; v < NODES; v++) {
		int op = ctn_packed_op(p.packed, v, g.alphabet);
		load4(y[v], (const float *)g.table + op * w + p.column);
		load4(h[v], g.w + g.embedding + op * w + p.column);
	}
	hear(y, (uint32_t)p.packed);
	for (int layer = 0;; layer++) {
		float b[4] = {};
		if (g.has_bias) load4(b, g.w + g.bias[layer] + p.column);
		const bool relu = has_relu(g, layer);
		uint32_t open = 0;
#pragma unroll
		for (int v = 0; v < NODES; v++)
#pragma unroll
			for (int c = 0; c < 4; c++) {
				float z = y[v][c] + b[c];
				if (g.residual) z += h[v][c];
				bool keep = v < p.nodes && (z > 0 || !relu);
				h[v][c] = keep ? z : 0;
				open |= (uint32_t)keep << (4 * v + c);
			}
		if (g.positive && p.own) g.positive[(layer * graphs + p.graph) * threads + p.column / 4] = open;
		if (layer == g.layers - 1) break;
#pragma unroll
		for (int v = 0; v < NODES; v++)
#pragma unroll
			for (int c = 0; c < 4; c++) y[v][c] = h[v][c];
		hear(y, (uint32_t)p.packed);
		if (p.own) {
			store_rows(rows + p.column, w, y);
			if (g.kept) store_rows((float *)g.kept + (layer * g.rows + p.graph * NODES) * w + p.column, w, y);
		}
		multiply(y, rows, matrix(g, layer + 1), w, p.column, slab);
	}
	float mean[4] = {}, dot[CTN_ENCODE_HEADS] = {};
#pragma unroll
	for (int c = 0; c < 4; c++) {
#pragma unroll
		for (int v = 0; v < NODES; v++) mean[c] += h[v][c];
		mean[c] /= max(1, p.nodes);
#pragma unroll
		for (int s = 0; s < CTN_ENCODE_HEADS; s++)
			if (s < g.heads) dot[s] += mean[c] * g.w[g.head + s * w + p.column + c];
	}
	if (g.mean && p.own && p.graph < n) store4((float *)g.mean + p.graph * w + p.column, mean);
#pragma unroll
	for (int s = 0; s < CTN_ENCODE_HEADS; s++)
		if (s < g.heads) tile[s * blockDim.x + threadIdx.x] = dot[s];
	__syncthreads();
	for (int e = threadIdx.x; e < per * g.heads; e += blockDim.x) {
		const int slot = e / g.heads, s = e % g.heads;
		if (first + slot >= n) break;
		float sum = 0;
		for (int q = 0; q < threads; q++) sum += tile[s * blockDim.x + slot * threads + q];
		g.score[(first + slot) * g.heads + s] = sum;
	}
}

// Grid and bound as cu_encode_f32.
extern "C" __global__ void __launch_bounds__(CTN_ENCODE_BLOCK, 2) cu_encode_back_f32(const ctn_encode_args g) {
	DYNAMIC_SHARED(float, shared);
	const int w = g.width, threads = w / 4, per = blockDim.x / threads;
	const int64_t n = ctn_size(g.n);
	if ((int64_t)blockIdx.x * per >= n) return;
	const place p(g, n);
	float *slab = shared, *rows = shared + 2 * CTN_PIECE_SLAB * w + p.slot * NODES * w;
	const int64_t graphs = g.rows / NODES;
	float d[4] = {};
	if (p.graph < n)
		for (int s = 0; s < g.heads; s++)
#pragma unroll
			for (int c = 0; c < 4; c++) d[c] += g.dscore[p.graph * g.heads + s] * g.w[g.head + s * w + p.column + c] / max(1, p.nodes);
	piece x, y;
#pragma unroll
	for (int v = 0; v < NODES; v++)
#pragma unroll
		for (int c = 0; c < 4; c++) x[v][c] = v < p.nodes ? d[c] : 0;
	for (int layer = g.layers - 1;; layer--) {
		const uint32_t open = has_relu(g, layer) ? g.positive[(layer * graphs + p.graph) * threads + p.column / 4] : ~0u;
#pragma unroll
		for (int v = 0; v < NODES; v++)
#pragma unroll
			for (int c = 0; c < 4; c++) {
				if (!(open >> (4 * v + c) & 1)) x[v][c] = 0;
				y[v][c] = x[v][c];
			}
		if (p.own) store_rows((float *)g.drows + (layer * g.rows + p.graph * NODES) * w + p.column, w, x);
		if (layer == 0) break;
		tell(y, (uint32_t)p.packed);
		if (p.own) store_rows(rows + p.column, w, y);
		multiply(y, rows, (const float *)g.matrices + (layer - 1) * w * w, w, p.column, slab);
#pragma unroll
		for (int v = 0; v < NODES; v++)
#pragma unroll
			for (int c = 0; c < 4; c++) x[v][c] = g.residual ? x[v][c] + y[v][c] : y[v][c];
	}
}

// Grid: squares of all weights, parts of the rows. Bound by float32 arithmetic, as many multiplications as a way forward.
extern "C" __global__ void __launch_bounds__(CTN_ENCODE_WEIGHTS_F32_BLOCK, 2) cu_encode_weights_f32(const ctn_encode_args g) {
	constexpr int TILE = CTN_ENCODE_TILE, STEP = 16;
	STATIC_SHARED(float[STEP][TILE], left);
	STATIC_SHARED(float[STEP][TILE], right);
	const job b(g, STEP);
	if (b.idle()) return;
	const int w = g.width, x = threadIdx.x % 16 * 4, y = threadIdx.x / 16 * 4;
	const int l = threadIdx.x / 16, c = threadIdx.x % 16 * 4; // what this thread loads: four columns of a row
	const bool head = b.layer == g.layers;
	const float *rights = head ? (const float *)g.mean : (const float *)g.drows + b.layer * g.rows * w;
	float acc[4][4] = {}, column = 0;
	for (int64_t row = b.begin; row < b.end; row += STEP) {
		float v[4] = {}, u[4] = {};
		if (row + l < b.end && b.j0 + c < w) load4(v, rights + (row + l) * w + b.j0 + c);
		if (b.layer == 0) {
			int f[4];
			features(f, g, row + l, b.end, c);
#pragma unroll
			for (int q = 0; q < 4; q++) u[q] = (float)f[q];
		} else if (row + l < b.end) {
			if (!head) {
				if (b.i0 + c < w) load4(u, (const float *)g.kept + ((b.layer - 1) * g.rows + row + l) * w + b.i0 + c);
			} else if (c == 0) {
#pragma unroll
				for (int s = 0; s < CTN_ENCODE_HEADS; s++)
					if (s < g.heads) u[s] = g.dscore[(row + l) * g.heads + s];
			}
		}
		store4(left[l] + c, u);
		store4(right[l] + c, v);
		__syncthreads();
#pragma unroll
		for (int k = 0; k < STEP; k++) {
			load4(u, left[k] + y);
			load4(v, right[k] + x);
#pragma unroll
			for (int r = 0; r < 4; r++)
#pragma unroll
				for (int q = 0; q < 4; q++) acc[r][q] += u[r] * v[q];
		}
		if (threadIdx.x < TILE && b.sums_columns(g))
#pragma unroll
			for (int k = 0; k < STEP; k++) column += right[k][threadIdx.x];
		__syncthreads();
	}
	float *out = b.part(g);
#pragma unroll
	for (int r = 0; r < 4; r++) store4(out + (y + r) * TILE + x, acc[r]);
	if (threadIdx.x < TILE) out[TILE * TILE + threadIdx.x] = column;
	add_parts(g, b);
}

// Grid: as above. Bound by the rows' memory traffic up to a width of 128: each square reads 256 bytes a row.
extern "C" __global__ void __launch_bounds__(CTN_ENCODE_WEIGHTS_BF16_BLOCK) cu_encode_weights_bf16(const ctn_encode_args g) {
	constexpr int TILE = CTN_ENCODE_TILE, STEP = 32, PITCH = TILE + 8, STAGES = 3;
	STATIC_SHARED(bf16[STAGES][STEP][PITCH], left);
	STATIC_SHARED(bf16[STAGES][STEP][PITCH], right);
	const job b(g, STEP);
	if (b.idle()) return;
	const int w = g.width, lane = threadIdx.x % 32, y = threadIdx.x / 64 * 32, x = threadIdx.x / 32 % 2 * 32;
	const bool head = b.layer == g.layers, made = b.layer == 0 || head; // a left factor that is made here has 32 columns
	const bf16 *rights = head ? (const bf16 *)g.mean : (const bf16 *)g.drows + b.layer * g.rows * w;
	const bf16 *lefts = (const bf16 *)g.kept + (b.layer - 1) * g.rows * w;
	auto copy = [&](bf16 *to, const bf16 *from, bool there) {
		if (there)
			cp_async16(to, from);
		else
			*(uint4 *)to = make_uint4(0, 0, 0, 0);
	};
	const int steps = (int)ctn_div_up(b.end - b.begin, STEP);
	auto load = [&](int s) {
		const int64_t first = b.begin + (int64_t)s * STEP;
		for (int e = threadIdx.x; s < steps && e < STEP * TILE / 8; e += CTN_ENCODE_WEIGHTS_BF16_BLOCK) {
			const int l = e / (TILE / 8), c = e % (TILE / 8) * 8;
			const int64_t row = first + l;
			copy(&right[s % STAGES][l][c], rights + row * w + b.j0 + c, row < b.end && b.j0 + c < w);
			if (!made) copy(&left[s % STAGES][l][c], lefts + row * w + b.i0 + c, row < b.end && b.i0 + c < w);
		}
		if (s < steps && made) {
			const int l = threadIdx.x / 4, c = threadIdx.x % 4 * 8;
			const int64_t row = first + l;
			uint4 v = make_uint4(0, 0, 0, 0);
			if (!head) {
				int f[8];
				features(f, g, row, b.end, c);
				v = make_uint4(pack_counts(f[0], f[1]), pack_counts(f[2], f[3]), pack_counts(f[4], f[5]), pack_counts(f[6], f[7]));
			} else if (c == 0 && row < b.end) {
				v.x = pack_bf16(g.dscore[row * g.heads], g.heads > 1 ? g.dscore[row * g.heads + 1] : 0);
			}
			*(uint4 *)&left[s % STAGES][l][c] = v;
		}
		cp_async_commit();
	};
	const uint32_t one[4] = {0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80};
	const bool sums = b.sums_columns(g) && y == 0;
	float acc[2][4][4] = {}, column[4][4] = {};
	load(0);
	load(1);
	for (int s = 0; s < steps; s++) {
		cp_async_wait<1>();
		__syncthreads();
		load(s + 2);
		if (made && y > 0) continue;
#pragma unroll
		for (int k = 0; k < STEP; k += 16) {
			uint32_t a[2][4], r[2][4];
#pragma unroll
			for (int q = 0; q < 2; q++) {
				ldmatrix_x4_trans(a[q], &left[s % STAGES][k + lane / 16 * 8 + lane % 8][y + 16 * q + lane / 8 % 2 * 8]);
				ldmatrix_x4_trans(r[q], &right[s % STAGES][k + lane % 16][x + 16 * q + lane / 16 * 8]);
			}
#pragma unroll
			for (int q = 0; q < 4; q++) {
				const uint32_t v[2] = {r[q / 2][q % 2 * 2], r[q / 2][q % 2 * 2 + 1]};
				mma_m16n8k16_bf16(acc[0][q], a[0], v);
				mma_m16n8k16_bf16(acc[1][q], a[1], v);
				if (sums) mma_m16n8k16_bf16(column[q], one, v);
			}
		}
	}
	float *out = b.part(g);
#pragma unroll
	for (int r = 0; r < 2; r++)
#pragma unroll
		for (int q = 0; q < 4; q++)
#pragma unroll
			for (int s = 0; s < 2; s++)
				*(float2 *)(out + (y + 16 * r + lane / 4 + 8 * s) * TILE + x + 8 * q + lane % 4 * 2) = make_float2(acc[r][q][2 * s], acc[r][q][2 * s + 1]);
	if (y == 0 && lane < 4)
#pragma unroll
		for (int q = 0; q < 4; q++) *(float2 *)(out + TILE * TILE + x + 8 * q + lane * 2) = make_float2(column[q][0], column[q][1]);
	add_parts(g, b);
}

// Grid: two graphs a warp. Bound by reading the matrices' factors from shared memory, at half of the tensor cores' rate; with few graphs by
// latency.
extern "C" __global__ void __launch_bounds__(CTN_ENCODE_BLOCK) cu_encode_bf16_64(const ctn_encode_args g) { encode_bf16<64>(g); }
extern "C" __global__ void __launch_bounds__(CTN_ENCODE_BLOCK) cu_encode_bf16_128(const ctn_encode_args g) { encode_bf16<128>(g); }
extern "C" __global__ void __launch_bounds__(CTN_ENCODE_BLOCK) cu_encode_bf16_256(const ctn_encode_args g) { encode_bf16<256>(g); }

// Grid and bound likewise.
extern "C" __global__ void __launch_bounds__(CTN_ENCODE_BLOCK) cu_encode_back_bf16_64(const ctn_encode_args g) { back_bf16<64>(g); }
extern "C" __global__ void __launch_bounds__(CTN_ENCODE_BLOCK) cu_encode_back_bf16_128(const ctn_encode_args g) { back_bf16<128>(g); }
extern "C" __global__ void __launch_bounds__(CTN_ENCODE_BLOCK) cu_encode_back_bf16_256(const ctn_encode_args g) { back_bf16<256>(g); }
