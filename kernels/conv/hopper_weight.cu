// ctnas-archs: 90a
// The gradient in the weight of the convolutions that hopper.cu takes: a product over the pixels of the output, whose
// rows are the channels of the taps of the input, 64 of a tap at a time, and whose columns are channels of the output.
// Copies bring 64 pixels of both a step, as they lie in memory, and wgmma reads both sides transposed. The pixels are
// split over blocks, and package partial adds the splits in order.
//
//   cu_conv_weight_hopper_RxC   tiles of R rows by C columns
#include "hopper.cuh"

namespace {

constexpr int STEP = CTN_HOPPER_STEP;

template <int MT, int N> __device__ __forceinline__ void weigh(const ctn_conv_weight_hopper_args &args) {
	using l = layout<64 * MT * CONSUMERS, N>;
	constexpr int PIECE = STEP * 128, PIECES = MT * CONSUMERS;
	const weight_block block(args.blocks);
	const ctn_conv_weight_hopper &g = args.all[block.job];
	const stage_barriers<l::STAGES> barriers;
	unsigned char *stages = shared();
	const int column0 = block.tile % g.across * N, first = block.tile / g.across * PIECES,
	          pieces = g.kh * g.kw * g.chunks;
	const int begin = block.split * g.split, end = min(begin + g.split, g.pixels);
	ring<l::STAGES> at;

	if (threadIdx.x >= 128 * CONSUMERS) {
		if (threadIdx.x > 128 * CONSUMERS) return;
		prefetch_map(&g.x), prefetch_map(&g.dz);
		const int line = begin / g.w;
		int x = begin - line * g.w, image = line / g.h, y = line - image * g.h;
		int c[PIECES], dx[PIECES], dy[PIECES];
#pragma unroll
		for (int i = 0; i < PIECES; i++) {
			const int piece = min(first + i, pieces - 1), tap = piece / g.chunks; // once more where there is none
			c[i] = (piece - tap * g.chunks) * 64, dy[i] = tap / g.kw, dx[i] = tap - dy[i] * g.kw;
		}
		for (int p = begin; p < end; p += STEP, at.move()) {
			unsigned char *to = stages + at.stage * l::STAGE;
			uint64_t *full = barriers.full + at.stage;
			mbarrier_wait(barriers.empty + at.stage, at.parity ^ 1);
			mbarrier_expect(full, l::STAGE);
#pragma unroll
			for (int i = 0; i < PIECES; i++)
				bulk_image(to + i * PIECE, &g.x, c[i], x + g.left, y + g.top, image, dx[i], dy[i], full);
#pragma unroll
			for (int i = 0; i < N / 64; i++)
				bulk_image(to + l::LEFT + i * PIECE, &g.dz, column0 + i * 64, x, y, image, 0, 0, full);
			x += g.apart[2];
			if (x >= g.w) x -= g.w, y++;
			y += g.apart[1];
			if (y >= g.h) y -= g.h, image++;
			image += g.apart[0];
		}
		return;
	}

	const int mine = threadIdx.x / 128, lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
	const uint32_t left = shared_address(stages) + mine * MT * PIECE, right = shared_address(stages) + l::LEFT;
	float acc[MT][N / 2];
	int before = 0;
	for (int p = begin; p < end; p += STEP) {
		mbarrier_wait(barriers.full + at.stage, at.parity);
		wgmma_fence();
#pragma unroll
		for (int k = 0; k < STEP / 16; k++)
#pragma unroll
			for (int m = 0; m < MT; m++)
				wgmma<N, 1, 1>(acc[m], matrix_at(left + at.stage * l::STAGE + m * PIECE + k * 2048, PIECE, 1024),
				               matrix_at(right + at.stage * l::STAGE + k * 2048, PIECE, 1024), (p - begin) | k);
		wgmma_commit();
		wgmma_wait<1>();
		if (p > begin && lane == 0) mbarrier_arrive(barriers.empty + before);
		before = at.stage;
		at.move();
	}
	wgmma_wait<0>();

	float *to = g.splits > 1 ? g.partial + block.split * g.len : g.dweight;
	const int ld = g.splits > 1 ? g.cols : g.weight_ld, tap_ld = g.splits > 1 ? g.depth * g.cols : g.tap_ld;
	const bool accumulate = g.splits == 1 && g.accumulate;
	const bool pairs = ((uint64_t)to & 7) == 0 && ld % 2 == 0 && tap_ld % 2 == 0 && g.len % 2 == 0;
#pragma unroll
	for (int m = 0; m < MT; m++) {
		const int piece = first + mine * MT + m, tap = piece / g.chunks;
		if (piece >= pieces) break;
#pragma unroll
		for (int half = 0; half < 2; half++) {
			const int c = (piece - tap * g.chunks) * 64 + warp * 16 + half * 8 + lane / 4;
			if (c >= g.depth) continue;
			float *line = to + (int64_t)tap * tap_ld + (int64_t)c * ld;
#pragma unroll
			for (int j = 0; j < N / 8; j++) {
				const int column = column0 + 8 * j + lane % 4 * 2;
				float v[2] = {acc[m][4 * j + 2 * half], acc[m][4 * j + 2 * half + 1]};
				if (pairs && column + 1 < g.cols) {
					float2 *both = (float2 *)(line + column);
					if (accumulate) v[0] += both->x, v[1] += both->y;
					*both = make_float2(v[0], v[1]);
					continue;
				}
#pragma unroll
				for (int i = 0; i < 2; i++)
					if (column + i < g.cols) line[column + i] = accumulate ? line[column + i] + v[i] : v[i];
			}
		}
	}
}

} // namespace

// Grid: of each gradient tiles of rows x tiles of columns, splits.
CTN_ENTRY(cu_conv_weight_hopper_256x64, const __grid_constant__ ctn_conv_weight_hopper_args g, BLOCK, 1) {
	weigh<2, 64>(g);
}
CTN_ENTRY(cu_conv_weight_hopper_128x128, const __grid_constant__ ctn_conv_weight_hopper_args g, BLOCK, 1) {
	weigh<1, 128>(g);
}
CTN_ENTRY(cu_conv_weight_hopper_256x128, const __grid_constant__ ctn_conv_weight_hopper_args g, BLOCK, 1) {
	weigh<2, 128>(g);
}
CTN_ENTRY(cu_conv_weight_hopper_128x256, const __grid_constant__ ctn_conv_weight_hopper_args g, BLOCK, 1) {
	weigh<1, 256>(g);
}
