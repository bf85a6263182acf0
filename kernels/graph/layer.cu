// A round of messages over shared rows: each row aggregates what was made of its neighbors' rows, and is multiplied by
// the next round's matrix or by the head before it leaves the block.
//
// Over all cells of NAS-Bench-101 (width 128, four rounds) the last two rounds are the work: 219,141 rows that
// aggregate 23,973, and 416,102 that aggregate those. Each row reads 3.5 and 3.2 rows, its own included: in bf16 195
// and 342 MB, the former from the L2 cache, the latter partly (56 MB of products, and as many for a row's own). With
// the 112 MB that the one before the last writes this takes some 0.15 ms on an H200.
#include "layer.h"
#include "piece.cuh"

namespace {

constexpr int ROWS = CTN_PIECE_ROWS;

// Four elements of a row, bf16 as float32.
__device__ __forceinline__ void load4(float (&x)[4], const bf16 *p) {
	uint2 v = *(const uint2 *)p;
	float2 a = unpack_bf16(v.x), b = unpack_bf16(v.y);
	x[0] = a.x, x[1] = a.y, x[2] = b.x, x[3] = b.y;
}
__device__ __forceinline__ void store4(bf16 *p, const float (&x)[4]) {
	*(uint2 *)p = make_uint2(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]));
}

// A thread's place: eight rows and four columns. Blocks have an even number of such groups of rows.
struct place {
	int threads, per, slot, column;
	int64_t first, n; // the thread's first row; all rows
	bool own;         // false: a thread that is left over
	__device__ place(const ctn_layer_args &g) {
		threads = g.width / 4, per = CTN_LAYER_BLOCK / threads & ~1;
		slot = threadIdx.x / threads, column = threadIdx.x % threads * 4;
		own = slot < per;
		n = ctn_size(g.rows);
		first = ((int64_t)blockIdx.x * per + slot) * ROWS;
	}
	__device__ int64_t block() const { return (int64_t)blockIdx.x * per * ROWS; }
	__device__ bool has(int v) const { return own && first + v < n; }
};

// The rows of a piece, zero where there are none. The eight rows' reads go side by side: one of each at a time.
template <class T> __device__ __forceinline__ void aggregate(piece &h, const ctn_layer_args &g, const place &p) {
	const int w = g.width;
	int e[ROWS], last[ROWS];
	int64_t self[ROWS];
#pragma unroll
	for (int v = 0; v < ROWS; v++) {
		const bool has = p.has(v) && g.ptr;
		e[v] = has ? g.ptr[p.first + v] : 0, last[v] = has ? g.ptr[p.first + v + 1] : 0,
		self[v] = has ? g.self[p.first + v] - g.first : 0;
#pragma unroll
		for (int c = 0; c < 4; c++) h[v][c] = 0;
	}
#pragma unroll
	for (int v = 0; v < ROWS; v++)
		if (p.has(v)) {
			if (g.table) load4(h[v], g.table + (p.first + v) * w + p.column);
			else load4(h[v], (const T *)g.own + self[v] * w + p.column);
		}
	for (bool more = true; more;) {
		more = false;
#pragma unroll
		for (int v = 0; v < ROWS; v++)
			if (e[v] < last[v]) {
				float x[4];
				load4(x, (const T *)g.in + (int64_t)(g.idx[e[v]++] - g.first) * w + p.column);
#pragma unroll
				for (int c = 0; c < 4; c++) h[v][c] += x[c];
				more |= e[v] < last[v];
			}
	}
	float b[4] = {};
	if (g.bias) load4(b, g.bias + p.column);
#pragma unroll
	for (int v = 0; v < ROWS; v++)
		if (p.has(v)) {
#pragma unroll
			for (int c = 0; c < 4; c++) {
				h[v][c] += b[c];
				if (g.relu && !(h[v][c] > 0)) h[v][c] = 0;
			}
		}
}

// The head: each thread's four columns, then a row's threads in their order.
__device__ __forceinline__ void score(const piece &h, const ctn_layer_args &g, const place &p, float *shared) {
	const int pitch = p.threads + 1; // neighbouring rows in different banks
	for (int s = 0; s < g.heads; s++) {
		float f[4];
		load4(f, g.head + s * g.width + p.column);
#pragma unroll
		for (int v = 0; v < ROWS; v++) {
			float sum = 0;
#pragma unroll
			for (int c = 0; c < 4; c++) sum += h[v][c] * f[c];
			if (p.own) shared[((p.slot * ROWS + v) * g.heads + s) * pitch + p.column / 4] = sum;
		}
	}
	__syncthreads();
	for (int e = threadIdx.x; e < p.per * ROWS * g.heads; e += CTN_LAYER_BLOCK) {
		if (p.block() + e / g.heads >= p.n) break;
		float sum = 0;
		for (int q = 0; q < p.threads; q++) sum += shared[e * pitch + q];
		g.score[p.block() * g.heads + e] = sum;
	}
}

} // namespace

// Grid: pieces of rows, CTN_LAYER_BLOCK / (w/4) rounded down to an even number a block. Bound by float32 arithmetic
// where there is a matrix.
CTN_ENTRY(cu_layer_f32, const ctn_layer_args g, CTN_LAYER_BLOCK, 2) {
	DYNAMIC_SHARED(float, shared);
	const place p(g);
	if (p.block() >= p.n) return;
	const int w = g.width;
	piece h, out;
	aggregate<float>(h, g, p);
	if (g.score) score(h, g, p, shared);
	if (!g.matrix) return;
	if (g.score) __syncthreads();
	float *rows = shared + 2 * CTN_PIECE_SLAB * w + (p.own ? p.slot : 0) * ROWS * w;
	if (p.own) store_rows(rows + p.column, w, h);
	multiply(out, rows, g.matrix, w, p.column, shared);
#pragma unroll
	for (int v = 0; v < ROWS; v++)
		if (p.has(v)) {
			store4((float *)g.out + (p.first + v) * w + p.column, out[v]);
			if (!g.out_own) continue;
			float x[4];
			load4(x, rows + v * w + p.column);
#pragma unroll
			for (int c = 0; c < 4; c++) x[c] += out[v][c];
			store4((float *)g.out_own + (p.first + v) * w + p.column, x);
		}
}

// Rounds the matrix. Grid: 1024 elements a block.
CTN_ENTRY(cu_layer_round, const ctn_layer_args g, CTN_LAYER_BLOCK) {
	const int e = blockIdx.x * 4 * CTN_LAYER_BLOCK + threadIdx.x * 4;
	if (e >= g.width * g.width) return;
	float x[4];
	load4(x, g.matrix + e);
	store4((bf16 *)g.rounded + e, x);
}

// Grid as cu_layer_f32. Bound by what it reads and writes: 256 bytes for each neighbor's row and each of its two
// products, at a width of 128.
CTN_ENTRY(cu_layer_bf16, const ctn_layer_args g, CTN_LAYER_BLOCK, 2) {
	DYNAMIC_SHARED(float, shared);
	const place p(g);
	if (p.block() >= p.n) return;
	const int w = g.width, pitch = w + 8, tiles = p.per / 2, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	// A warp has 16 rows by 16 columns at a time; where there are fewer tiles of 16 rows than warps, several share one.
	const int groups = max(1, CTN_LAYER_BLOCK / 32 / tiles), panel = 16 * groups, panel_pitch = panel + 8,
	          panels = (w + panel - 1) / panel;
	bf16 *buffers = (bf16 *)shared, *rows = buffers + 2 * w * panel_pitch;
	auto load = [&](int q) { // columns of the matrix
		const int pieces = min(panel, w - q * panel) / 8;
		const bf16 *from = (const bf16 *)g.rounded + q * panel;
		bf16 *to = buffers + q % 2 * w * panel_pitch;
		for (int e = threadIdx.x; e < w * pieces; e += CTN_LAYER_BLOCK)
			cp_async16(to + e / pieces * panel_pitch + e % pieces * 8, from + e / pieces * w + e % pieces * 8);
		cp_async_commit();
	};
	if (g.matrix && !g.score) load(0);
	piece h;
	aggregate<bf16>(h, g, p);
	if (g.score) score(h, g, p, shared);
	if (!g.matrix) return;
	if (g.score) {
		__syncthreads();
		load(0);
	}
	if (p.own)
#pragma unroll
		for (int v = 0; v < ROWS; v++) store4(rows + (p.slot * ROWS + v) * pitch + p.column, h[v]);
	for (int q = 0; q < panels; q++) {
		cp_async_wait<0>();
		__syncthreads();
		if (q + 1 < panels) load(q + 1);
		const int column = q * panel + warp % groups * 16;
		if (column >= w) continue;
		const bf16 *b =
		        buffers + q % 2 * w * panel_pitch + lane % 16 * panel_pitch + warp % groups * 16 + lane / 16 * 8;
		for (int t = warp / groups; t < tiles; t += CTN_LAYER_BLOCK / 32 / groups) {
			const bf16 *a = rows + (16 * t + lane % 16) * pitch + lane / 16 * 8;
			float left[4] = {}, right[4] = {};
#pragma unroll 4
			for (int k = 0; k < w; k += 16) {
				uint32_t x[4], y[4];
				ldmatrix_x4(x, a + k);
				ldmatrix_x4_trans(y, b + k * panel_pitch);
				const uint32_t b0[2] = {y[0], y[1]}, b1[2] = {y[2], y[3]};
				mma_m16n8k16_bf16(left, x, b0);
				mma_m16n8k16_bf16(right, x, b1);
			}
			auto store =
			        [&](void *out,
			            int s) { // neighbouring lanes exchange halves, so that a row's 32 bytes are written at once
				        const bool odd = lane & 1;
				        const uint32_t low = pack_bf16(left[2 * s], left[2 * s + 1]),
				                       high = pack_bf16(right[2 * s], right[2 * s + 1]);
				        const uint32_t mine = odd ? high : low, other = __shfl_xor_sync(~0u, odd ? low : high, 1);
				        const int64_t row = p.block() + 16 * t + lane / 4 + 8 * s;
				        if (row < p.n)
					        *(uint2 *)((bf16 *)out + row * w + column + (odd ? 8 : 0) + lane % 4 / 2 * 4) =
					                odd ? make_uint2(other, mine) : make_uint2(mine, other);
			        };
#pragma unroll
			for (int s = 0; s < 2; s++) {
				store(g.out, s);
				if (!g.out_own) continue;
				const bf16 *row = rows + (16 * t + lane / 4 + 8 * s) * pitch + column + lane % 4 * 2;
				const float2 a = unpack_bf16(*(const uint32_t *)row), b = unpack_bf16(*(const uint32_t *)(row + 8));
				left[2 * s] += a.x, left[2 * s + 1] += a.y, right[2 * s] += b.x, right[2 * s + 1] += b.y;
				store(g.out_own, s);
			}
		}
	}
}
