// Convolutions of one tap with strides of 1 on tensors of bfloat16 in whole vectors: 1x1, most of a MobileNet. They are
// bound by memory where hardly anything is done beside reading and writing, and so they are made: a row is a pixel;
// vectors of channels are dealt out to the threads so that none is idle, whatever their number; columns that do not
// exist are not multiplied; the weight of a tile of columns is converted and lies in shared memory as long as the block
// lives; a thread keeps the sums of its channels for all rows of the block.
//
//   cu_conv_point          forward
//   cu_conv_input_point    the gradient in the input
//   cu_conv_weight_point   the gradient in the weight; package partial adds its splits
//
// Tiles have up to 64 columns; the channels that are read come in up to four steps of up to 64, all of one size.
#include "tile.cuh"
#include <type_traits>

namespace {

constexpr int ROWS = CTN_CONV_GPU_ROWS, COLS = CTN_CONV_GPU_POINT_COLS, L = LANES<bf16>,
              DEEP = CTN_CONV_GPU_PLAIN_STEP;

// A thread's vectors of a step of ROWS pixels by `vectors` vectors of channels, of a tensor of `channels`: one of
// channels, of up to MINE pixels. GRADIENT: of g.grad, otherwise of g.in.
template <bool GRADIENT, int ROWS, class Args> struct side {
	static constexpr int MINE = ROWS / (BLOCK / (DEEP / L));
	const Args &g;
	const int vectors, channels;
	const int apart;         // from one of a thread's pixels to the next
	const int vector, strip; // the thread's, and its first pixel: none of the step where there are too many threads
	int c = 0, there = 0;    // its channel in the step on its way, and how far from the first pixel there are more
	uint4 raw[MINE], raw_z[GRADIENT ? MINE : 1];

	__device__ __forceinline__ side(const Args &g, int vectors, int channels)
	    : g(g), vectors(vectors), channels(channels), apart(BLOCK / vectors), vector(threadIdx.x % vectors),
	      strip((int)threadIdx.x / vectors < apart ? (int)threadIdx.x / vectors : ROWS) {}

	// Starts with the vectors of step `step` and of pixels from row0 on, up to `end`.
	__device__ __forceinline__ void load(int row0, int end, int step) {
		c = (step * vectors + vector) * L;
		there = c < channels ? min(end - row0, ROWS) - strip : 0;
		const int ld = (int)(GRADIENT ? g.grad.g_ld : g.in.ld), at = (row0 + strip) * ld + c;
		const bf16 *from = (const bf16 *)(GRADIENT ? g.grad.g : g.in.z);
#pragma unroll
		for (int i = 0; i < MINE; i++) {
			raw[i] = make_uint4(0, 0, 0, 0);
			if (i * apart < there) raw[i] = *(const uint4 *)(from + (at + i * apart * ld));
		}
		if constexpr (GRADIENT) {
			const int z_ld = (int)g.grad.z_ld, z_at = (row0 + strip) * z_ld + c;
#pragma unroll
			for (int i = 0; i < MINE; i++) {
				raw_z[i] = make_uint4(0, 0, 0, 0);
				if (i * apart < there && g.grad.p)
					raw_z[i] = *(const uint4 *)((const bf16 *)g.grad.z + (z_at + i * apart * z_ld));
			}
		}
	}

	// Puts them into tile[pixel][channel] as they are multiplied, zeros where there are none. They are made of what was
	// read where that lies, four channels at a time: the numbers of more would find no registers.
	__device__ __forceinline__ void store(int row0, bf16 *tile) {
#pragma unroll
		for (int q = 0; q < 2; q++) {
			const int from = c + 4 * q, n = c < channels ? 4 : 0;
			if constexpr (GRADIENT) {
				if (!g.grad.p) break;
				const gradient_channels<4> k(&g.grad, from, n);
#pragma unroll
				for (int i = 0; i < MINE; i++) {
					float v[4], z[4];
					unpack(quad_of<bf16>(raw[i], q), v);
					unpack(quad_of<bf16>(raw_z[i], q), z);
					gradient_value(k, z, v);
					replace(raw[i], q, v);
				}
			} else {
				const input_channels<4> k(&g.in, from, n);
#pragma unroll
				for (int i = 0; i < MINE; i++) {
					float v[4];
					unpack(quad_of<bf16>(raw[i], q), v);
					if (g.in.scale) {
#pragma unroll
						for (int j = 0; j < 4; j++) v[j] = v[j] * k.scale[j] + k.shift[j];
					}
					activate_cheaply(v, g.in.act);
					if (g.in.gate && i * apart < there) {
						float gate[4];
						const int image = (row0 + strip + i * apart) / (int)g.in.image;
						load_channels(g.in.gate + (int64_t)image * g.in.gate_ld, from, 4, 0.0f, gate);
#pragma unroll
						for (int j = 0; j < 4; j++) v[j] *= gate[j];
					}
					replace(raw[i], q, v);
				}
			}
		}
#pragma unroll
		for (int i = 0; i < MINE; i++) {
			const int row = strip + late(apart) * i;
			if (row >= ROWS) continue;
			if (row - strip >= there) raw[i] = make_uint4(0, 0, 0, 0);
			*(uint4 *)(tile + swizzled<DEEP>(row, vector)) = raw[i];
		}
	}

	// Zeros behind an odd number of vectors, which the tensor cores take in pairs.
	__device__ __forceinline__ void fill(bf16 *tile) const {
		if (vectors % 2 && threadIdx.x < ROWS)
			*(uint4 *)(tile + swizzled<DEEP>(threadIdx.x, vectors)) = make_uint4(0, 0, 0, 0);
	}

  private:
	// Puts four numbers in the place of the q'th four.
	static __device__ __forceinline__ void replace(uint4 &all, int q, const float (&v)[4]) {
		const uint32_t low = pack_bf16(v[0], v[1]), high = pack_bf16(v[2], v[3]);
		if (q) all.z = low, all.w = high;
		else all.x = low, all.y = high;
	}
};

// Converts the weight of a tile of columns, step by step: right[channel][column] forward, right[column][channel]
// backward, as it lies in g.weight.
template <bool TRANSPOSED>
__device__ __forceinline__ void bring_weight(const ctn_conv_gpu_args &g, int column0, int columns, int steps,
                                             int vectors, bf16 *right) {
	constexpr int WIDTH = TRANSPOSED ? DEEP : COLS; // of a row
	const int pairs = (vectors + 1) / 2 * 2, rows = TRANSPOSED ? COLS : pairs * L,
	          across = TRANSPOSED ? pairs : COLS / L;
	const bool wide = whole<float>(g.weight, g.at.weight_ld, 0, 4, 4);
	for (int step = 0; step < steps; step++)
		for (int i = threadIdx.x; i < rows * across; i += BLOCK) {
			const int row = i / across, vector = i - row * across;
			const int column = TRANSPOSED ? row : vector * L, k = TRANSPOSED ? vector * L : row,
			          c = step * vectors * L + k;
			float v[L] = {};
			if (column < columns && k < vectors * L && c < g.at.depth)
				load_part(g.weight + (TRANSPOSED ? (int64_t)(column0 + column) * g.at.weight_ld + c
				                                 : (int64_t)c * g.at.weight_ld + column0 + column),
				          L, wide, v);
			store_shared(right + step * DEEP * COLS + swizzled<WIDTH>(row, vector), v);
		}
}

template <bool TRANSPOSED> __device__ __forceinline__ void convolve(const ctn_conv_gpu_args &g) {
	using sums_type = typename std::conditional<TRANSPOSED, backward_sums<L>, forward_sums<L>>::type;
	constexpr int C = COLS / 8, PITCH = TRANSPOSED ? COLS + 4 : COLS + L; // of the results: float backward
	DYNAMIC_SHARED(float, work);
	STATIC_SHARED(float[TRANSPOSED ? 4 : 1][COLS], columns_of); // the bias, or what the sink knows of the columns
	bf16 *left = (bf16 *)work,
	     *right = left + (TRANSPOSED ? CTN_CONV_GPU_POINT_RESULTS : CTN_CONV_GPU_POINT_LEFT) / sizeof(bf16);
	const int across = (g.at.cols + g.tile_cols - 1) / g.tile_cols, column_tile = blockIdx.x % across,
	          part = blockIdx.x / across, column0 = column_tile * g.tile_cols,
	          columns = min(g.tile_cols, g.at.cols - column0);
	const int steps = (g.at.depth + DEEP - 1) / DEEP, vectors = ((g.at.depth + L - 1) / L + steps - 1) / steps;
	float *stats = TRANSPOSED ? g.sink.stats : g.stats;
	const int lane = threadIdx.x % 32, warp_row = (int)threadIdx.x / 32 * 16;

	side<TRANSPOSED, ROWS, ctn_conv_gpu_args> in(g, vectors, g.at.depth);
	const int begin = part * g.tiles * ROWS, end = min(g.rows, begin + g.tiles * ROWS);
	in.load(begin, end, 0);
	bring_weight<TRANSPOSED>(g, column0, columns, steps, vectors, right);
	if constexpr (TRANSPOSED) {
		if ((int)threadIdx.x * L < columns)
			sink_channels<L>(&g.sink, column0 + threadIdx.x * L, L).keep(columns_of[0], COLS, threadIdx.x * L);
	} else if ((int)threadIdx.x < COLS) {
		columns_of[0][threadIdx.x] = g.bias && (int)threadIdx.x < columns ? g.bias[column0 + threadIdx.x] : 0.0f;
	}

	sums_type sums;
	for (int row0 = begin; row0 < end; row0 += ROWS) {
		float acc[C][4];
#pragma unroll
		for (int j = 0; j < C; j++)
#pragma unroll
			for (int i = 0; i < 4; i++) acc[j][i] = 0.0f;
		for (int step = 0; step < steps; step++) {
			bf16 *now = left + step % 2 * (ROWS * DEEP);
			in.fill(now); // the results lie here too
			in.store(row0, now);
			__syncthreads();
			if (step + 1 < steps) in.load(row0, end, step + 1);
			else if (row0 + ROWS < end) in.load(row0 + ROWS, end, 0);
			const int at = swizzled<DEEP>(warp_row + lane % 16, lane / 16);
			const bf16 *b_from = right + step * DEEP * COLS;
			const int to = TRANSPOSED ? swizzled<DEEP>(lane / 16 * 8 + lane % 8, lane / 8 % 2)
			                          : swizzled<COLS>(lane % 8 + lane / 8 % 2 * 8, lane / 16);
#pragma unroll
			for (int k = 0; k < DEEP; k += 16) {
				if (k >= vectors * L) break;
				uint32_t a[4];
				ldmatrix_x4(a, now + (at ^ k));
#pragma unroll
				for (int j = 0; j < C; j += 2) {
					if (j * 8 >= columns) break;
					uint32_t b[4];
					if (TRANSPOSED) ldmatrix_x4(b, b_from + (to ^ k) + 8 * j * DEEP);
					else ldmatrix_x4_trans(b, b_from + (to ^ 8 * j) + k * COLS);
					const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
					mma_m16n8k16_bf16(acc[j], a, first);
					mma_m16n8k16_bf16(acc[j + 1], a, second);
				}
			}
		}
		__syncthreads();
#pragma unroll
		for (int j = 0; j < C; j++)
#pragma unroll
			for (int i = 0; i < 2; i++) {
				const int row = warp_row + lane / 4 + 8 * i, column = 8 * j + lane % 4 * 2;
				const float *v = &acc[j][2 * i];
				if (TRANSPOSED) {
					*(float2 *)(work + row * PITCH + column) = make_float2(v[0], v[1]);
				} else {
					const float2 b = *(const float2 *)(columns_of[0] + column);
					*(uint32_t *)(left + row * PITCH + column) = pack_bf16(v[0] + b.x, v[1] + b.y);
				}
			}
		__syncthreads();
		// The thread's part of the results: a vector of channels of every strips-th row.
		const int groups = late(columns) / L, strips = BLOCK / groups, group = late(threadIdx.x) % groups,
		          strip = late(threadIdx.x) / groups, c = late(column_tile) * g.tile_cols + group * L;
		if (strip < strips) {
			if constexpr (TRANSPOSED) {
#pragma unroll 1
				for (int row = strip; row < ROWS && row0 + row < end; row += strips) {
					const sink_channels<L> k(columns_of[0], COLS, late(group * L));
					float v[L];
					load_part(work + row * PITCH + group * L, L, true, v);
					sink_part<bf16>(&g.sink, k, row0 + row, c, L, true, v, sums);
				}
			} else {
#pragma unroll 1
				for (int row = strip; row < ROWS && row0 + row < end; row += strips) {
					const uint4 raw = *(const uint4 *)(left + row * PITCH + group * L);
					*(uint4 *)((bf16 *)g.z + (row0 + row) * g.ld + c) = raw;
					float v[L];
					unpack(raw, v);
					if (stats) sums.add(v);
				}
			}
		}
		__syncthreads();
	}
	if (!stats) return;
	block_sums<sums_type> all;
	const int groups = late(columns) / L;
	gather_sums<sums_type, L>(sums, threadIdx.x % groups, groups, (int)threadIdx.x / groups, BLOCK / groups, work, all);
	end_sums(all, stats, TRANSPOSED ? g.sink.stats_ld : g.stats_ld, TRANSPOSED ? g.sink.norm : g.norm, part,
	         column_tile, late(column_tile) * g.tile_cols, columns, work);
}

// A tile of up to 64 x 64 of the weight's gradient, of a split of the pixels in steps of DEEP. Warps 0..3 have a
// quarter each and every other sixteen pixels of a step, warps 4..7 the other ones; at the end their sums are added.
__device__ __forceinline__ void weigh(const ctn_conv_weight_gpu_args &args) {
	constexpr int R = 2, C = COLS / 16, TILE = DEEP * DEEP, PITCH = COLS + 4;
	STATIC_SHARED(bf16[2][2][TILE], tiles);
	float *sum = (float *)tiles;
	const weight_block block(args.blocks);
	const ctn_conv_weight_gpu &g = args.all[block.job];
	const ctn_conv_geometry &a = g.at;
	const int down_tiles = (a.depth + DEEP - 1) / DEEP, row_tile = block.tile / g.tiles,
	          column_tile = block.tile % g.tiles;
	const int begin = block.split * g.split, end = min(begin + g.split, g.pixels);
	const int down = ((a.depth + L - 1) / L + down_tiles - 1) / down_tiles,
	          across = (a.cols / L + g.tiles - 1) / g.tiles,
	          rows = min(down * L, a.depth - row_tile * down * L),
	          columns = min(across * L, a.cols - column_tile * across * L);
	side<false, DEEP, ctn_conv_weight_gpu> left(g, down, a.depth);
	side<true, DEEP, ctn_conv_weight_gpu> right(g, across, a.cols);
	const int lane = threadIdx.x % 32, row0 = (int)threadIdx.x / 32 % 2 * 32,
	          column0 = (int)threadIdx.x / 64 % 2 * 32, half = threadIdx.x / 128;

	float acc[R][C][4];
#pragma unroll
	for (int r = 0; r < R; r++)
#pragma unroll
		for (int j = 0; j < C; j++)
#pragma unroll
			for (int i = 0; i < 4; i++) acc[r][j][i] = 0.0f;
	left.load(begin, end, row_tile), right.load(begin, end, column_tile);
	for (int p0 = begin, now = 0; p0 < end; p0 += DEEP, now ^= 1) {
		left.store(p0, tiles[now][0]), right.store(p0, tiles[now][1]);
		__syncthreads();
		if (p0 + DEEP < end) left.load(p0 + DEEP, end, row_tile), right.load(p0 + DEEP, end, column_tile);
		const int at = swizzled<DEEP>(lane % 8 + lane / 16 * 8, row0 / 8 + lane / 8 % 2),
		          to = swizzled<COLS>(lane % 8 + lane / 8 % 2 * 8, column0 / 8 + lane / 16);
		for (int k = half * 16; k < DEEP && row0 < rows; k += 32) {
			uint32_t m[R][4];
#pragma unroll
			for (int r = 0; r < R; r++) ldmatrix_x4_trans(m[r], tiles[now][0] + (at ^ 16 * r) + k * DEEP);
#pragma unroll
			for (int j = 0; j < C; j += 2) {
				if (column0 + j * 8 >= columns) break;
				uint32_t b[4];
				ldmatrix_x4_trans(b, tiles[now][1] + (to ^ 8 * j) + k * COLS);
				const uint32_t one[2] = {b[0], b[1]}, two[2] = {b[2], b[3]};
#pragma unroll
				for (int r = 0; r < R; r++)
					mma_m16n8k16_bf16(acc[r][j], m[r], one), mma_m16n8k16_bf16(acc[r][j + 1], m[r], two);
			}
		}
	}
	for (int h = 0; h < 2; h++) {
		__syncthreads();
		if (half != h) continue;
#pragma unroll
		for (int r = 0; r < R; r++)
#pragma unroll
			for (int j = 0; j < C; j++)
#pragma unroll
				for (int i = 0; i < 4; i++) {
					const int row = row0 + 16 * r + lane / 4 + i / 2 * 8,
					          column = column0 + 8 * j + lane % 4 * 2 + i % 2;
					float *to = sum + row * PITCH + column;
					*to = h ? *to + acc[r][j][i] : acc[r][j][i];
				}
	}
	__syncthreads();
	float *to = g.splits > 1 ? g.partial + (late(end) - 1) / g.split * g.len : g.dweight;
	const int ld = g.splits > 1 ? g.out : a.weight_ld;
	to += (int64_t)row_tile * down * L * ld + column_tile * across * L;
	for (int i = threadIdx.x; i < rows * columns; i += BLOCK) {
		const int row = i / columns, column = i - row * columns;
		float *one = to + (int64_t)row * ld + column;
		const float all = sum[row * PITCH + column];
		*one = g.splits == 1 && g.accumulate ? *one + all : all;
	}
}

} // namespace

// Grid: parts x tiles of columns, which run faster.
CTN_ENTRY(cu_conv_point, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<false>(g); }
CTN_ENTRY(cu_conv_input_point, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<true>(g); }

// Grid: of each gradient tiles of rows x tiles of columns, splits.
CTN_ENTRY(cu_conv_weight_point, const __grid_constant__ ctn_conv_weight_gpu_args g, BLOCK, 2) { weigh(g); }
