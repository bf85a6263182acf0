// The gradient in a convolution's weight: a product over the pixels of the output, whose rows are the channels of the
// taps of the input and whose columns are channels of the output. Both sides are read through their prologues on the
// way into shared memory, one step of pixels ahead of the products. The pixels are split over blocks, and
// package partial adds the splits in order.
//
//   cu_conv_weight          float32, tiles of 128 x 64
//   cu_conv_weight_bf16_N   tensors of bfloat16, tensor cores, tiles of N x N
#include "tile.cuh"

namespace {

// A pixel of the output that moves on by g.apart pixels at a time.
struct walker {
	int image, y, x;
	__device__ __forceinline__ walker(const ctn_conv_geometry &a, int pixel) {
		int line = pixel / a.wo;
		x = pixel - line * a.wo, image = line / a.ho, y = line - image * a.ho;
	}
	__device__ __forceinline__ void move(const ctn_conv_weight_gpu &g) {
		x += g.apart[2];
		if (x >= g.at.wo) x -= g.at.wo, y++;
		y += g.apart[1];
		if (y >= g.at.ho) y -= g.at.ho, image++;
		image += g.apart[0];
	}
};

template <class T, int ROWS, int COLS> __device__ __forceinline__ void weigh(const ctn_conv_weight_gpu_args &args) {
	constexpr int L = LANES<T>, PAD = L, LEFT = STEP<T> * (ROWS + PAD), RIGHT = STEP<T> * (COLS + PAD);
	constexpr int LEFT_VECTORS = ROWS / L, LEFT_APART = BLOCK / LEFT_VECTORS, LEFT_MINE = STEP<T> / LEFT_APART;
	constexpr int RIGHT_VECTORS = COLS / L, RIGHT_APART = BLOCK / RIGHT_VECTORS, RIGHT_MINE = STEP<T> / RIGHT_APART;
	STATIC_SHARED(T[2][LEFT], left);
	STATIC_SHARED(T[2][RIGHT], right);
	const weight_block block(args.blocks);
	const ctn_conv_weight_gpu &g = args.all[block.job];
	const ctn_conv_geometry &a = g.at;
	const int row_tile = block.tile / g.tiles, column0 = block.tile % g.tiles * COLS, group = block.group;
	const int begin = block.split * g.split, end = min(begin + g.split, g.pixels);

	// The vectors of both sides that a thread brings, and their places among the pixels of a step.
	const int left_vector = threadIdx.x % LEFT_VECTORS, left_pixel = threadIdx.x / LEFT_VECTORS;
	const int right_vector = threadIdx.x % RIGHT_VECTORS, right_pixel = threadIdx.x / RIGHT_VECTORS;
	const tap_channels<T> k(a, a.depth, row_tile * LEFT_VECTORS + left_vector);
	const int c = group * a.depth + k.c, left_n = k.n, j = group * a.cols + column0 + right_vector * L;
	const int right_n = min(L, a.cols - column0 - right_vector * L);
	const bool left_wide = input_whole<T>(&g.in, c, left_n, L), right_wide = gradient_whole<T>(&g.grad, j, right_n, L);
	const int down = k.ky * a.dilation - a.pad_h, along = k.kx * a.dilation - a.pad_w;
	walker at(a, begin + left_pixel);

	uint4 raw[LEFT_MINE], raw_g[RIGHT_MINE], raw_z[RIGHT_MINE];
	int read[LEFT_MINE];
	auto load = [&](int p0) {
#pragma unroll
		for (int i = 0; i < LEFT_MINE; i++) {
			const int y = at.y * a.stride_h + down, x = at.x * a.stride_w + along;
			const bool inside = p0 + left_pixel + i * LEFT_APART < end && left_n > 0 && (unsigned)y < (unsigned)a.h &&
			                    (unsigned)x < (unsigned)a.w;
			read[i] = inside ? (at.image * a.h + y) * a.w + x : -1;
			if (inside) raw[i] = load_raw((const T *)g.in.z + read[i] * g.in.ld + c, left_n, left_wide);
			at.move(g);
		}
#pragma unroll
		for (int i = 0; i < RIGHT_MINE; i++) {
			const int p = p0 + right_pixel + i * RIGHT_APART;
			if (p >= end || right_n <= 0) continue;
			raw_g[i] = load_raw((const T *)g.grad.g + p * g.grad.g_ld + j, right_n, right_wide);
			if (g.grad.p) raw_z[i] = load_raw((const T *)g.grad.z + p * g.grad.z_ld + j, right_n, right_wide);
		}
	};
	auto store = [&](int p0, int now) {
#pragma unroll
		for (int q = 0; q < L / 4; q++) { // four channels at a time: registers are scarce here
			const input_channels<4> in(&g.in, c + 4 * q, min(4, left_n - 4 * q));
#pragma unroll
			for (int i = 0; i < LEFT_MINE; i++) {
				float v[4] = {};
				if (read[i] >= 0) {
					unpack(quad_of<T>(raw[i], q), v);
					input_value(&g.in, in, read[i], c + 4 * q, min(4, left_n - 4 * q), v);
				}
				store_part(&left[now][(left_pixel + i * LEFT_APART) * (ROWS + PAD) + left_vector * L + 4 * q], 4, true,
				           v);
			}
		}
#pragma unroll
		for (int q = 0; q < L / 4; q++) {
			const gradient_channels<4> grad(&g.grad, j + 4 * q, min(4, right_n - 4 * q));
#pragma unroll
			for (int i = 0; i < RIGHT_MINE; i++) {
				float v[4] = {}, z[4];
				if (p0 + right_pixel + i * RIGHT_APART < end && right_n > 0) {
					unpack(quad_of<T>(raw_g[i], q), v);
					if (g.grad.p) {
						unpack(quad_of<T>(raw_z[i], q), z);
						gradient_value(grad, z, v);
					}
				}
				store_part(&right[now][(right_pixel + i * RIGHT_APART) * (COLS + PAD) + right_vector * L + 4 * q], 4,
				           true, v);
			}
		}
	};

	products<T, ROWS, COLS> out;
	out.clear();
	load(begin);
	store(begin, 0);
	__syncthreads();
	for (int p0 = begin, now = 0; p0 < end; p0 += STEP<T>, now ^= 1) {
		const bool more = p0 + STEP<T> < end;
		if (more) load(p0 + STEP<T>);
		out.add(left[now], ROWS + PAD, right[now], COLS + PAD);
		if (more) store(p0 + STEP<T>, now ^ 1);
		__syncthreads();
	}
	store_weight<T, ROWS, COLS>(args, out);
}

} // namespace

// Grid: of each gradient tiles of rows x tiles of columns, groups, splits.
CTN_ENTRY(cu_conv_weight, const __grid_constant__ ctn_conv_weight_gpu_args g, BLOCK, 2) {
	weigh<float, 128, CTN_CONV_GPU_COLS_F32>(g);
}
CTN_ENTRY(cu_conv_weight_bf16_64, const __grid_constant__ ctn_conv_weight_gpu_args g, BLOCK, 2) {
	weigh<bf16, 64, 64>(g);
}
CTN_ENTRY(cu_conv_weight_bf16_128, const __grid_constant__ ctn_conv_weight_gpu_args g, BLOCK, 2) {
	weigh<bf16, 128, 128>(g);
}
