// The comparator's layers in bf16, on tensor cores: see encode.cuh.
#include "encode.cuh"

namespace {

// A warp has a tile of 16 rows, two graphs: a for rows 0 to 7, b for 8 to 15. Tensor cores aggregate, too: A of both
// graphs is one 16 x 16 matrix of zeros and ones. Lane l is at row l/4 of each graph and at columns 2(l%4) and 2(l%4)+1
// of every eight.
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
	__device__ void aggregate(uint32_t (&m)[4]) const {
		m[0] = ones(ctn_packed_neighbors(packed[0], row, nodes[0]) >> column), m[1] = 0;
		m[3] = ones(ctn_packed_neighbors(packed[1], row, nodes[1]) >> column), m[2] = 0;
	}
	__device__ void aggregate_transposed(uint32_t (&m)[4]) const {
		m[0] = ones(transposed_row(0)), m[1] = 0;
		m[3] = ones(transposed_row(1)), m[2] = 0;
	}

  private:
	__device__ static uint32_t ones(uint32_t bits) { return (bits & 1 ? 0x3f80u : 0) | (bits & 2 ? 0x3f800000u : 0); }
	__device__ uint32_t transposed_row(int s) const {
		return (ctn_packed_neighbors(packed[s], column, nodes[s]) >> row & 1) |
		       (ctn_packed_neighbors(packed[s], column + 1, nodes[s]) >> row & 1) << 1;
	}
};

__device__ __forceinline__ uint32_t pack_counts(int low, int high) { return pack_bf16((float)low, (float)high); }

// y = m x tile (16 x w), as a left factor of the product that follows.
template <int W>
__device__ __forceinline__ void mix(uint32_t (&y)[W / 16][4], const uint32_t (&m)[4], const bf16 *tile, int pitch,
                                    int w, int lane) {
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

// Stores a 16 x 16 left factor, rows w apart. Neighbouring lanes exchange halves, so that a row's 32 bytes are written
// at once.
__device__ __forceinline__ void store_factor(bf16 *out, int w, const uint32_t (&a)[4], int lane) {
	const bool odd = lane & 1;
#pragma unroll
	for (int half = 0; half < 2; half++) {
		uint32_t mine = odd ? a[half + 2] : a[half], other = __shfl_xor_sync(~0u, odd ? a[half] : a[half + 2], 1);
		*(uint2 *)(out + (lane / 4 + 8 * half) * w + (odd ? 8 : 0) + lane % 4 / 2 * 4) =
		        odd ? make_uint2(other, mine) : make_uint2(mine, other);
	}
}

__device__ __forceinline__ void store_tile(bf16 *out, const bf16 *tile, int pitch, int w, int lane) {
	for (int e = lane; e < 2 * w; e += 32) {
		int row = e / (w / 8), column = e % (w / 8) * 8;
		*(uint4 *)(out + row * w + column) = *(const uint4 *)(tile + row * pitch + column);
	}
}

// Which ReLUs are open: a lane's four elements of every eight columns, 64 columns a word.
__device__ __forceinline__ uint32_t *open_word(const ctn_encode_args &g, int layer, int64_t tile, int column,
                                               int lane) {
	int words = (g.width + 63) / 64;
	return g.positive + ((layer * (g.rows / 16) + tile) * words + column / 64) * 32 + lane;
}

// The width's class sets the registers, the panel of a matrix in shared memory the barriers. Products are summed in two
// halves: with few graphs their time is that of one product after the other.
template <int W> constexpr int PANEL = W > 128 ? 16 : 32;

template <int W> __device__ __forceinline__ void encode_bf16(const ctn_encode_args &g) {
	constexpr int P = PANEL<W>;
	DYNAMIC_SHARED(bf16, shared);
	const int w = g.width, pitch = w + 8, warps = blockDim.x / 32, panels = (w + P - 1) / P,
	          total = (g.layers - 1) * panels;
	const int64_t n = ctn_size(g.n), t = (int64_t)blockIdx.x * warps + threadIdx.x / 32;
	if ((int64_t)blockIdx.x * warps * 2 >= n) return;
	bf16 *tile = shared + 2 * w * (P + 8) + threadIdx.x / 32 * 16 * pitch;
	auto load = [&](int q) { // columns of a matrix, all its rows
		const bf16 *from = (const bf16 *)g.matrices + q / panels * w * w + q % panels * P;
		bf16 *to = shared + q % 2 * w * (P + 8);
		const int pieces = (w - q % panels * P < P ? w - q % panels * P : P) / 8;
		for (int e = threadIdx.x; e < w * pieces; e += blockDim.x)
			cp_async16(to + e / pieces * (P + 8) + e % pieces * 8, from + e / pieces * w + e % pieces * 8);
		cp_async_commit();
	};
	if (total > 0) load(0);

	const pair p(g, n, t);
	uint32_t open = 0;
	// What follows a product: four elements of eight columns from `column` on.
	auto finish = [&](int layer, float(&z)[4], int column, bool residual) {
		float2 b = g.has_bias ? *(const float2 *)(g.w + g.bias[layer] + column + p.column) : make_float2(0, 0);
#pragma unroll
		for (int s = 0; s < 2; s++) {
			uint32_t *at = (uint32_t *)(tile + (p.row + 8 * s) * pitch + column + p.column);
			float x = z[2 * s] + b.x, y = z[2 * s + 1] + b.y;
			if (residual) {
				float2 old = unpack_bf16(*at);
				x += old.x, y += old.y;
			}
			bool keep_x = p.here[s] && (x > 0 || !has_relu(g, layer)),
			     keep_y = p.here[s] && (y > 0 || !has_relu(g, layer));
			*at = pack_bf16(keep_x ? x : 0, keep_y ? y : 0);
			open |= ((uint32_t)keep_x | (uint32_t)keep_y << 1) << (column / 8 % 8 * 4 + 2 * s);
		}
		if (column % 64 == 56 || column + 8 == w) {
			if (g.positive) *open_word(g, layer, t, column, p.lane) = open;
			open = 0;
		}
	};

	// Layer 0: how many of a node's neighbors have each operation, and its own operation, times the table of products
	// and, for the residual, the embedding.
	{
		uint32_t a[4];
#pragma unroll
		for (int s = 0; s < 2; s++) {
			const counts ops(p.packed[s], g.alphabet);
			const uint32_t neighbors = counts::spread(ctn_packed_neighbors(p.packed[s], p.row, p.nodes[s])),
			               self = p.here[s] ? 1u << 3 * p.row : 0;
			a[s] = pack_counts(ops.of(p.column, neighbors), ops.of(p.column + 1, neighbors));
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
	p.aggregate(m);
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
			if (g.mean && p.graph + s < n)
				*(uint32_t *)((bf16 *)g.mean + (p.graph + s) * w + column) = pack_bf16(sum.x, sum.y);
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
	const int w = g.width, pitch = w + 8, warps = blockDim.x / 32, panels = (w + P - 1) / P,
	          total = (g.layers - 1) * panels;
	const int64_t n = ctn_size(g.n), t = (int64_t)blockIdx.x * warps + threadIdx.x / 32;
	if ((int64_t)blockIdx.x * warps * 2 >= n) return;
	bf16 *tile = shared + 2 * P * pitch + threadIdx.x / 32 * 16 * pitch;
	auto load = [&](int q) { // rows of a matrix, that of the last layer first
		const int rows = w - q % panels * P < P ? w - q % panels * P : P;
		const bf16 *from = (const bf16 *)g.matrices + (g.layers - 2 - q / panels) * w * w + q % panels * P * w;
		bf16 *to = shared + q % 2 * P * pitch;
		for (int e = threadIdx.x; e < rows * (w / 8); e += blockDim.x)
			cp_async16(to + e / (w / 8) * pitch + e % (w / 8) * 8, from + e * 8);
		cp_async_commit();
	};
	if (total > 0) load(0);

	const pair p(g, n, t);
	uint32_t open = 0;
	// Through the ReLU of a layer: four elements of eight columns from `column` on.
	auto finish = [&](int layer, float(&z)[4], int column, bool residual) {
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
	p.aggregate_transposed(m);
	auto store = [&](int layer) {
		store_tile((bf16 *)g.drows + (layer * g.rows + 16 * t) * w, tile, pitch, w, p.lane);
	};
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

} // namespace

// Grid: 32 columns of the table a block, then 1024 elements of the matrices. The table is a right factor of 16 rows,
// the products' eight and, for the residual, the embedding's, in the order of a warp's registers.
CTN_ENTRY(cu_encode_prepare_bf16, const ctn_encode_args g, 256) {
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

// Grid: two graphs a warp. Bound by reading the matrices' factors from shared memory, at half of the tensor cores'
// rate; with few graphs by latency.
CTN_ENTRY(cu_encode_bf16_64, const ctn_encode_args g, CTN_ENCODE_BLOCK) { encode_bf16<64>(g); }
CTN_ENTRY(cu_encode_bf16_128, const ctn_encode_args g, CTN_ENCODE_BLOCK) { encode_bf16<128>(g); }
CTN_ENTRY(cu_encode_bf16_256, const ctn_encode_args g, CTN_ENCODE_BLOCK) { encode_bf16<256>(g); }

// Grid and bound likewise.
CTN_ENTRY(cu_encode_back_bf16_64, const ctn_encode_args g, CTN_ENCODE_BLOCK) { back_bf16<64>(g); }
CTN_ENTRY(cu_encode_back_bf16_128, const ctn_encode_args g, CTN_ENCODE_BLOCK) { back_bf16<128>(g); }
CTN_ENTRY(cu_encode_back_bf16_256, const ctn_encode_args g, CTN_ENCODE_BLOCK) { back_bf16<256>(g); }

// Grid: as above. Bound by the rows' memory traffic up to a width of 128: each square reads 256 bytes a row.
CTN_ENTRY(cu_encode_weights_bf16, const ctn_encode_args g, CTN_ENCODE_WEIGHTS_BF16_BLOCK) {
	constexpr int TILE = CTN_ENCODE_TILE, STEP = 32, PITCH = TILE + 8, STAGES = 3;
	STATIC_SHARED(bf16[STAGES][STEP][PITCH], left);
	STATIC_SHARED(bf16[STAGES][STEP][PITCH], right);
	const job b(g, STEP);
	if (b.idle()) return;
	const int w = g.width, lane = threadIdx.x % 32, y = threadIdx.x / 64 * 32, x = threadIdx.x / 32 % 2 * 32;
	const bool head = b.layer == g.layers,
	           made = b.layer == 0 || head; // a left factor that is made here has 32 columns
	const bf16 *rights = head ? (const bf16 *)g.mean : (const bf16 *)g.drows + b.layer * g.rows * w;
	const bf16 *lefts = (const bf16 *)g.kept + (b.layer - 1) * g.rows * w;
	auto copy = [&](bf16 *to, const bf16 *from, bool there) {
		if (there) cp_async16(to, from);
		else *(uint4 *)to = make_uint4(0, 0, 0, 0);
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
				v = make_uint4(pack_counts(f[0], f[1]), pack_counts(f[2], f[3]), pack_counts(f[4], f[5]),
				               pack_counts(f[6], f[7]));
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
				*(float2 *)(out + (y + 16 * r + lane / 4 + 8 * s) * TILE + x + 8 * q + lane % 4 * 2) =
				        make_float2(acc[r][q][2 * s], acc[r][q][2 * s + 1]);
	if (y == 0 && lane < 4)
#pragma unroll
		for (int q = 0; q < 4; q++)
			*(float2 *)(out + TILE * TILE + x + 8 * q + lane * 2) = make_float2(column[q][0], column[q][1]);
	add_parts(g, b);
}
