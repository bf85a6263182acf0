// The comparator's layers in float32: see encode.cuh.
#include "encode.cuh"

namespace {

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
__device__ __forceinline__ void aggregate(piece &x, uint32_t edges) {
#pragma unroll
	for (int v = NODES - 1; v > 0; v--)
#pragma unroll
		for (int u = 0; u < v; u++)
			if (edges >> (v * (v - 1) / 2 + u) & 1)
#pragma unroll
				for (int c = 0; c < 4; c++) x[v][c] += x[u][c];
}
__device__ __forceinline__ void aggregate_transposed(piece &x, uint32_t edges) {
#pragma unroll
	for (int u = 0; u < NODES - 1; u++)
#pragma unroll
		for (int v = u + 1; v < NODES; v++)
			if (edges >> (v * (v - 1) / 2 + u) & 1)
#pragma unroll
				for (int c = 0; c < 4; c++) x[u][c] += x[v][c];
}

} // namespace

// Grid: 32 columns of the table a block, then squares of 32 of the matrices. Latency: w multiplications one after the
// other.
CTN_ENTRY(cu_encode_prepare_f32, const ctn_encode_args g, 256) {
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

// Grid: blockDim / (w/4) graphs a block. Bound by float32 arithmetic: 8 w² (layers-1) multiplications a graph.
CTN_ENTRY(cu_encode_f32, const ctn_encode_args g, CTN_ENCODE_BLOCK, 2) {
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
	aggregate(y, (uint32_t)p.packed);
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
		aggregate(y, (uint32_t)p.packed);
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
CTN_ENTRY(cu_encode_back_f32, const ctn_encode_args g, CTN_ENCODE_BLOCK, 2) {
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
			for (int c = 0; c < 4; c++)
				d[c] += g.dscore[p.graph * g.heads + s] * g.w[g.head + s * w + p.column + c] / max(1, p.nodes);
	piece x, y;
#pragma unroll
	for (int v = 0; v < NODES; v++)
#pragma unroll
		for (int c = 0; c < 4; c++) x[v][c] = v < p.nodes ? d[c] : 0;
	for (int layer = g.layers - 1;; layer--) {
		const uint32_t open =
		        has_relu(g, layer) ? g.positive[(layer * graphs + p.graph) * threads + p.column / 4] : ~0u;
#pragma unroll
		for (int v = 0; v < NODES; v++)
#pragma unroll
			for (int c = 0; c < 4; c++) {
				if (!(open >> (4 * v + c) & 1)) x[v][c] = 0;
				y[v][c] = x[v][c];
			}
		if (p.own) store_rows((float *)g.drows + (layer * g.rows + p.graph * NODES) * w + p.column, w, x);
		if (layer == 0) break;
		aggregate_transposed(y, (uint32_t)p.packed);
		if (p.own) store_rows(rows + p.column, w, y);
		multiply(y, rows, (const float *)g.matrices + (layer - 1) * w * w, w, p.column, slab);
#pragma unroll
		for (int v = 0; v < NODES; v++)
#pragma unroll
			for (int c = 0; c < 4; c++) x[v][c] = g.residual ? x[v][c] + y[v][c] : y[v][c];
	}
}

// Grid: squares of all weights, parts of the rows. Bound by float32 arithmetic, as many multiplications as a
// forward pass.
CTN_ENTRY(cu_encode_weights_f32, const ctn_encode_args g, CTN_ENCODE_WEIGHTS_F32_BLOCK, 2) {
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
