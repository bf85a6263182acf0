// ctnas-archs: 90a
// Wide convolutions with stride 1 whose operands are multiplied as they are stored: bfloat16, without batch norm,
// activation or gate. One warpgroup has tensors and weights copied to shared memory, some steps of 64 channels of a tap
// ahead; two multiply them there (wgmma) and store the results.
//
//   cu_conv_hopper_RxC         tiles of R pixels by C channels
//   cu_conv_input_hopper_RxC   the gradient in the input
#include "hopper.cuh"

namespace {

template <bool TRANSPOSED> struct sums_of {
	using type = forward_sums<8>;
};
template <> struct sums_of<true> {
	using type = backward_sums<8>;
};

// Brings all steps of a block's tiles, by one thread.
template <int MT, int N, class Barriers>
__device__ __forceinline__ void bring(const ctn_conv_hopper_args &g, const Barriers &barriers, unsigned char *stages,
                                      int column_tile, int first, int end) {
	using l = layout<64 * MT * CONSUMERS, N>;
	constexpr int ROWS = 64 * MT * CONSUMERS;
	const int steps = g.kh * g.kw * g.chunks;
	ring<l::STAGES> at;
	prefetch_map(&g.of);
	const unsigned char *packed = (const unsigned char *)g.packed + (int64_t)column_tile * steps * l::RIGHT;
	for (int row0 = first; row0 < end; row0 += ROWS) {
		int x[MT], y[MT], image[MT];
#pragma unroll
		for (int m = 0; m < MT; m++) {
			const int row = row0 + m * CTN_HOPPER_BOX, line = row / g.w;
			image[m] = line / g.h;
			x[m] = row - line * g.w + g.left, y[m] = line - image[m] * g.h + g.top;
		}
		int dx = 0, dy = 0, c = 0;
		for (int step = 0; step < steps; step++, at.move()) {
			unsigned char *to = stages + at.stage * l::STAGE;
			mbarrier_wait(barriers.empty + at.stage, at.parity ^ 1);
			mbarrier_expect(barriers.full + at.stage, l::STAGE);
#pragma unroll
			for (int m = 0; m < MT; m++)
				bulk_image(to + m * CTN_HOPPER_BOX * 128, &g.of, c, x[m], y[m], image[m], dx, dy,
				           barriers.full + at.stage);
			bulk_copy(to + l::LEFT, packed + (int64_t)step * l::RIGHT, l::RIGHT, barriers.full + at.stage);
			c += 64;
			if (c >= g.depth) {
				c = 0;
				if (++dx == g.kw) dx = 0, dy++;
			}
		}
	}
}

template <int MT, int N, bool TRANSPOSED> __device__ __forceinline__ void convolve(const ctn_conv_hopper_args &g) {
	constexpr int ROWS = 64 * MT * CONSUMERS;
	using l = layout<ROWS, N>;
	using sums_type = typename sums_of<TRANSPOSED>::type;
	constexpr int WARPS = 4 * CONSUMERS, PITCH = CTN_HOPPER_PITCH;
	constexpr int SUMS = TRANSPOSED ? 0 : 1; // the first of the two rows that are sums
	STATIC_SHARED(float[WARPS][2][N], total); // of each warp, what its rows add to the sums
	STATIC_SHARED(float[CONSUMERS][N], near);
	const stage_barriers<l::STAGES> barriers;
	unsigned char *stages = shared();
	const int column_tile = blockIdx.x % g.across, part = blockIdx.x / g.across, steps = g.kh * g.kw * g.chunks;
	const int first = part * g.tiles * ROWS, end = min(g.rows, first + g.tiles * ROWS);
	ring<l::STAGES> at;

	float *stats = TRANSPOSED ? g.sink.stats : g.stats;
	block_sums<sums_type> all;
	if ((int)threadIdx.x >= 128 * CONSUMERS) {
		if (threadIdx.x == 128 * CONSUMERS) bring<MT, N>(g, barriers, stages, column_tile, first, end);
	} else {
		const int mine = threadIdx.x / 128, t = threadIdx.x % 128, lane = t % 32, warp = t / 32;
		float *results = (float *)(stages + l::STAGES * l::STAGE) + mine * 64 * PITCH;
		const uint32_t left = shared_address(stages) + mine * MT * 8192, right = shared_address(stages) + l::LEFT;
		// A thread's place among stored results: eight channels of every 16th row.
		const int group = t % 8, strip = t / 8;
		float acc[MT][N / 2];
		for (int row0 = first; row0 < end; row0 += ROWS) {
			int before = 0;
			for (int step = 0; step < steps; step++) {
				mbarrier_wait(barriers.full + at.stage, at.parity);
				wgmma_fence();
#pragma unroll
				for (int k = 0; k < 4; k++)
#pragma unroll
					for (int m = 0; m < MT; m++)
						wgmma<N, 0, 0>(acc[m], matrix_at(left + at.stage * l::STAGE + m * 8192 + k * 32, 0, 1024),
						               matrix_at(right + at.stage * l::STAGE + k * 32, 0, 1024), step | k);
				wgmma_commit();
				wgmma_wait<1>();
				if (step && lane == 0) mbarrier_arrive(barriers.empty + before);
				before = at.stage;
				at.move();
			}
			wgmma_wait<0>();
			if (lane == 0) mbarrier_arrive(barriers.empty + before);

			// 64 rows by 64 columns at a time, through shared memory, so that a thread has neighbours.
#pragma unroll
			for (int b = 0; b < MT * (N / 64); b++) {
				const int m = b / (N / 64), q = b % (N / 64), column = column_tile * N + q * 64 + group * 8;
				const int above = row0 + (mine * MT + m) * 64;
				part_barrier(1 + mine, 128);
				const float *sum = &acc[m][q * 32];
				float *mine_to = results + (warp * 16 + lane / 4) * PITCH + lane % 4 * 2;
#pragma unroll
				for (int j = 0; j < 8; j++) {
					const float *v = sum + 4 * j;
					*(float2 *)(mine_to + 8 * j) = make_float2(v[0], v[1]);
					*(float2 *)(mine_to + 8 * PITCH + 8 * j) = make_float2(v[2], v[3]);
				}
				part_barrier(1 + mine, 128);
				const int n = min(8, g.cols - column);
				sums_type sums;
				if (n > 0) {
					if constexpr (TRANSPOSED) {
						const bool wide = sink_whole<bf16>(&g.sink, column, n, 8);
						const sink_channels<8> k(&g.sink, column, n);
#pragma unroll 1
						for (int i = 0; i < 4; i++) {
							const int row = strip + 16 * i;
							if (above + row >= end) break;
							const auto raw = load_sink<bf16>(&g.sink, above + row, column, n, wide);
							float v[8];
							load_part(results + row * PITCH + group * 8, 8, true, v);
							sink_part<bf16>(&g.sink, k, raw, above + row, column, n, wide, v, sums);
						}
					} else {
						const bool wide = whole<bf16>(g.z, g.ld, column, n, 8);
						float bias[8], base[8];
						load_channels(g.bias, column, n, 0.0f, bias);
						if (stats) { // differences from a value that all rows of a warpgroup share
							float *keep = &near[mine][q * 64 + group * 8];
							if (row0 == first && m == 0) {
								load_part(results + group * 8, 8, true, base);
#pragma unroll
								for (int j = 0; j < 8; j++) base[j] += bias[j];
								if (strip == 0) store_part(keep, 8, true, base);
							} else {
								load_part(keep, 8, true, base);
							}
						}
#pragma unroll
						for (int i = 0; i < 4; i++) {
							const int row = strip + 16 * i;
							if (above + row >= end) break;
							float v[8];
							load_part(results + row * PITCH + group * 8, 8, true, v);
#pragma unroll
							for (int j = 0; j < 8; j++) v[j] += bias[j];
							store_part((bf16 *)g.z + (above + row) * g.ld + column, n, wide, v);
							if (!stats) continue;
#pragma unroll
							for (int j = 0; j < 8; j++) {
								const float d = v[j] - base[j];
								sums.row[SUMS][j] += d, sums.row[SUMS + 1][j] += d * d;
							}
						}
					}
				}
				if (!stats) continue;
#pragma unroll
				for (int r = 0; r < 2; r++) {
#pragma unroll
					for (int j = 0; j < 8; j++) {
						float sum = sums.row[SUMS + r][j];
						sum += __shfl_xor_sync(~0u, sum, 8);
						sum += __shfl_xor_sync(~0u, sum, 16);
						float *to = &total[mine * 4 + warp][r][q * 64 + group * 8 + j];
						if (lane < 8) *to = row0 == first && m == 0 ? sum : *to + sum;
					}
				}
			}
		}
		if (stats) {
			part_barrier(3, 128 * CONSUMERS);
			const int j = threadIdx.x;
#pragma unroll
			for (int w = 0; w < CONSUMERS && j < N; w++) {
				int count = 0;
				for (int row0 = first + w * MT * 64; row0 < end; row0 += ROWS) count += min(MT * 64, end - row0);
				float one[sums_type::ROWS];
				if (!TRANSPOSED) one[0] = near[w][j];
#pragma unroll
				for (int r = 0; r < 2; r++)
					one[SUMS + r] = total[4 * w][r][j] + total[4 * w + 1][r][j] + total[4 * w + 2][r][j] +
					                total[4 * w + 3][r][j];
				merge(all.row, all.count, one, count);
				all.count += count;
			}
		}
	}
	if (!stats) return;
	__syncthreads(); // stages and results are free
	end_sums(all, stats, TRANSPOSED ? g.sink.stats_ld : g.stats_ld, TRANSPOSED ? g.sink.norm : g.norm, part,
	         column_tile, column_tile * N, min(N, g.cols - column_tile * N), (float *)stages);
}

} // namespace

// Grid: parts x tiles of columns, which run faster, so that those who read the same rows run together.
CTN_ENTRY(cu_conv_hopper_128x64, const __grid_constant__ ctn_conv_hopper_args g, BLOCK, 1) {
	convolve<1, 64, false>(g);
}
CTN_ENTRY(cu_conv_hopper_128x128, const __grid_constant__ ctn_conv_hopper_args g, BLOCK, 1) {
	convolve<1, 128, false>(g);
}
CTN_ENTRY(cu_conv_input_hopper_128x64, const __grid_constant__ ctn_conv_hopper_args g, BLOCK, 1) {
	convolve<1, 64, true>(g);
}
CTN_ENTRY(cu_conv_input_hopper_128x128, const __grid_constant__ ctn_conv_hopper_args g, BLOCK, 1) {
	convolve<1, 128, true>(g);
}
