// Convolutions of tensors of bfloat16 that lie as they are multiplied: without norm, activation or gate, whole vectors
// of channels on multiples of 16 bytes. Nothing is left to do on the way into shared memory, so that copies run ahead
// of the products by two steps of 64 channels, or pixels, and hardly any instructions are left beside the products'.
//
//   cu_conv_plain_N          tiles of 128 x N, N = 64 or 128
//   cu_conv_input_plain_N    the gradient in the input, of a convolution with strides of 1
//   cu_conv_weight_plain_N   the gradient in the weight, any strides; package partial adds its splits
//
// The weight is packed as for conv.cu: a step here is two there, and a last one that is odd is of zeros.
#include "tile.cuh"
#include <type_traits>

namespace {

constexpr int ROWS = CTN_CONV_GPU_ROWS, L = LANES<bf16>, DEEP = CTN_CONV_GPU_PLAIN_STEP,
              STAGES = CTN_CONV_GPU_PLAIN_STAGES;

// The step of the left side that a thread copies next: one vector of channels of MINE rows, whose tap it counts.
template <bool TRANSPOSED> struct reader {
	static constexpr int VECTORS = DEEP / L, APART = BLOCK / VECTORS, MINE = ROWS / APART;
	const ctn_conv_gpu_args &g;
	const bf16 *const from;
	const int ld, w, way; // way: pixels from a tap to the next one
	int at[MINE];         // elements from `from` to the row's tap (0, 0)
	uint32_t inside[MINE]; // bits 0..15: which rows of taps lie in the image, 16..31: which columns
	int c, kx, delta;      // the channel; elements from tap (0, 0) to it
	uint32_t tap;          // its bits, of `inside`

	__device__ __forceinline__ reader(const ctn_conv_gpu_args &g)
	    : g(g), from((const bf16 *)(TRANSPOSED ? g.grad.g : g.in.z) + blockIdx.y * g.at.depth),
	      ld((int)(TRANSPOSED ? g.grad.g_ld : g.in.ld)), w(TRANSPOSED ? g.at.wo : g.at.w),
	      way(TRANSPOSED ? -g.at.dilation : g.at.dilation) {}

	static __device__ __forceinline__ int vector() { return (int)threadIdx.x % VECTORS; }

	__device__ __forceinline__ void begin(int row0) {
		const ctn_conv_geometry &a = g.at;
		const int height = TRANSPOSED ? a.h : a.ho, width = TRANSPOSED ? a.w : a.wo, h = TRANSPOSED ? a.ho : a.h;
#pragma unroll
		for (int i = 0; i < MINE; i++) {
			const int row = row0 + (int)threadIdx.x / VECTORS + i * APART, line = row / width, image = line / height;
			int y = line - image * height, x = row - line * width;
			if (TRANSPOSED) y += a.pad_h, x += a.pad_w;
			else y = y * a.stride_h - a.pad_h, x = x * a.stride_w - a.pad_w;
			at[i] = ((image * h + y) * w + x) * ld;
			inside[i] = 0;
			if (row >= g.rows) continue;
			for (int k = 0; k < a.kh; k++) inside[i] |= (uint32_t)((unsigned)(y + k * way) < (unsigned)h) << k;
			for (int k = 0; k < a.kw; k++) inside[i] |= (uint32_t)((unsigned)(x + k * way) < (unsigned)w) << (16 + k);
		}
		c = delta = vector() * L, kx = 0, tap = 0x10001;
	}

	// Starts the copies of a step and goes on to the next one. left[row][channel], vectors at swizzled().
	__device__ __forceinline__ void copy(bf16 *left) {
		left += swizzled<DEEP>((int)threadIdx.x / VECTORS, vector());
#pragma unroll
		for (int i = 0; i < MINE; i++)
			cp_async16_or_zero(left + i * (APART * DEEP), from + (at[i] + delta), (inside[i] & tap) == tap);
		c += DEEP, delta += DEEP;
		if (c < g.at.depth) return;
		// A tap has at least DEEP channels, so that this is the next one.
		c -= g.at.depth, delta += way * ld - g.at.depth, kx++, tap += tap & 0xffff0000u;
		if (kx < g.at.kw) return;
		kx = 0, delta += way * (w - g.at.kw) * ld, tap = (tap & 0xffffu) << 1 | 0x10000;
	}
};

// Where a thread's part of a step of the right side begins.
template <int COLS> __device__ __forceinline__ int weight_part() {
	constexpr int VECTORS = DEEP / L, S = STEP<bf16>;
	const int vector = threadIdx.x % VECTORS, column = threadIdx.x / VECTORS;
	return (vector * L / S * COLS + column) * S + vector * L % S;
}

// Starts the copies of that part: right[column][channel].
template <int COLS> __device__ __forceinline__ void copy_weight(const bf16 *from, bf16 *right) {
	constexpr int VECTORS = DEEP / L, S = STEP<bf16>, APART = BLOCK / VECTORS;
	right += swizzled<DEEP>((int)threadIdx.x / VECTORS, (int)threadIdx.x % VECTORS);
#pragma unroll
	for (int i = 0; i < COLS / APART; i++) cp_async16(right + i * (APART * DEEP), from + i * (APART * S));
}

template <int COLS, bool TRANSPOSED> __device__ __forceinline__ void convolve(const ctn_conv_gpu_args &g) {
	using sums_type = typename std::conditional<TRANSPOSED, backward_sums<L>, forward_sums<L>>::type;
	constexpr int LEFT = ROWS * DEEP, STAGE = LEFT + COLS * DEEP;
	DYNAMIC_SHARED(float, work);
	bf16 *stages = (bf16 *)work;
	const int across = (g.at.cols + COLS - 1) / COLS, column_tile = blockIdx.x % across, part = blockIdx.x / across;
	const int steps = (g.at.depth * g.at.kh * g.at.kw + DEEP - 1) / DEEP;
	const bf16 *packed = (const bf16 *)g.packed + (int64_t)(blockIdx.y * across + column_tile) * steps * (COLS * DEEP) +
	                     weight_part<COLS>();
	float *stats = TRANSPOSED ? g.sink.stats : g.stats;
	block_sums<sums_type> all;
	STATIC_SHARED(float[COLS], bias);
	if (!TRANSPOSED && (int)threadIdx.x < COLS) { // there are barriers before it is read
		const int to = column_tile * COLS + threadIdx.x;
		bias[threadIdx.x] = g.bias && to < g.at.cols ? g.bias[blockIdx.y * g.at.cols + to] : 0.0f;
	}

	reader<TRANSPOSED> in(g);
	const int begin = part * g.tiles * ROWS, end = min(g.rows, begin + g.tiles * ROWS);
	for (int row0 = begin; row0 < end; row0 += ROWS) {
		products<bf16, ROWS, COLS> out;
		out.clear();
		in.begin(row0);
		const bf16 *weight = packed;
		auto copy = [&](int stage) {
			in.copy(stages + stage * STAGE);
			copy_weight<COLS>(weight, stages + stage * STAGE + LEFT);
			weight += COLS * DEEP;
		};
#pragma unroll
		for (int s = 0; s < STAGES - 1; s++) {
			if (s < steps) copy(s);
			cp_async_commit();
		}
		for (int step = 0, now = 0; step < steps; step++) {
			cp_async_wait<STAGES - 2>();
			__syncthreads();
			if (step + STAGES - 1 < steps) copy(now ? now - 1 : STAGES - 1);
			cp_async_commit();
			out.template add_along_swizzled<DEEP>(stages + now * STAGE, stages + now * STAGE + LEFT);
			now = now + 1 < STAGES ? now + 1 : 0;
		}
		__syncthreads();

		// The thread's part of the stored tile: a vector of channels of every STRIPS-th row.
		constexpr int GROUPS = COLS / L, STRIPS = BLOCK / GROUPS, MINE = ROWS / STRIPS;
		const int mine = threadIdx.x % GROUPS, strip = threadIdx.x / GROUPS,
		          j = late(blockIdx.x) % across * COLS + mine * L, c = blockIdx.y * g.at.cols + j;
		sums_type sums;
		if constexpr (TRANSPOSED) {
			constexpr int PITCH = COLS + 4;
			out.each([&](int row, int column, const float(&v)[2]) {
				*(float2 *)(work + row * PITCH + column) = make_float2(v[0], v[1]);
			});
			__syncthreads();
			if (j < g.at.cols) {
				const sink_channels<L> k(&g.sink, c, L);
#pragma unroll 1 // registers are scarce; the other threads' loads are on their way
				for (int at = strip; at < ROWS && row0 + at < end; at += STRIPS) {
					float v[L];
					load_part(work + at * PITCH + mine * L, L, true, v);
					sink_part<bf16>(&g.sink, k, row0 + at, c, L, true, v, sums);
				}
			}
		} else {
			constexpr int PITCH = COLS + L;
			bf16 *tile = stages;
			out.each([&](int row, int column, const float(&v)[2]) {
				const float2 b = *(const float2 *)(bias + column);
				*(uint32_t *)(tile + row * PITCH + column) = pack_bf16(v[0] + b.x, v[1] + b.y);
			});
			__syncthreads();
			if (j < g.at.cols) {
#pragma unroll
				for (int i = 0; i < MINE; i++) {
					const int at = strip + i * STRIPS, row = row0 + at;
					if (row >= end) break;
					const uint4 raw = *(const uint4 *)(tile + at * PITCH + mine * L);
					*(uint4 *)((bf16 *)g.z + row * g.ld + c) = raw;
					float v[L];
					unpack(raw, v);
					if (stats) sums.add(v);
				}
			}
		}
		if (stats) gather_sums<sums_type, L>(sums, mine, GROUPS, strip, STRIPS, work, all);
		else __syncthreads();
	}
	if (!stats) return;
	const int last_tile = late(blockIdx.x) % across;
	end_sums(all, stats, TRANSPOSED ? g.sink.stats_ld : g.stats_ld, TRANSPOSED ? g.sink.norm : g.norm,
	         (int)blockIdx.x / across, (int)blockIdx.y * across + last_tile,
	         (int)blockIdx.y * g.at.cols + last_tile * COLS, min(COLS, g.at.cols - last_tile * COLS), work);
}

template <int COLS> __device__ __forceinline__ void weigh(const ctn_conv_weight_gpu_args &args) {
	constexpr int LEFT = DEEP * ROWS, STAGE = LEFT + DEEP * COLS;
	constexpr int LEFT_VECTORS = ROWS / L, LEFT_APART = BLOCK / LEFT_VECTORS, LEFT_MINE = DEEP / LEFT_APART;
	constexpr int RIGHT_VECTORS = COLS / L, RIGHT_APART = BLOCK / RIGHT_VECTORS, RIGHT_MINE = DEEP / RIGHT_APART;
	DYNAMIC_SHARED(float, work);
	bf16 *stages = (bf16 *)work;
	const weight_block block(args.blocks);
	const ctn_conv_weight_gpu &g = args.all[block.job];
	const ctn_conv_geometry &a = g.at;
	const int row_tile = block.tile / g.tiles, column0 = block.tile % g.tiles * COLS, group = block.group;
	const int begin = block.split * g.split, end = min(begin + g.split, g.pixels);

	const int left_vector = threadIdx.x % LEFT_VECTORS, left_pixel = threadIdx.x / LEFT_VECTORS;
	const int right_vector = threadIdx.x % RIGHT_VECTORS, right_pixel = threadIdx.x / RIGHT_VECTORS;
	const tap_channels<bf16> k(a, a.depth, row_tile * LEFT_VECTORS + left_vector);
	// The pixels at which the thread's ends begin: none where its vector does not exist.
	const int left_end = k.n > 0 ? end - left_pixel : 0,
	          right_end = column0 + right_vector * L < a.cols ? end - right_pixel : 0;
	const bf16 *x_from = (const bf16 *)g.in.z + group * a.depth + k.c,
	           *g_from = (const bf16 *)g.grad.g + group * a.cols + column0 + right_vector * L;
	g_from += (int64_t)(begin + right_pixel) * g.grad.g_ld;
	const int down = k.ky * a.dilation - a.pad_h, along = k.kx * a.dilation - a.pad_w;

	// The input's pixel of the next copy, and what it takes to get to that of LEFT_APART pixels of the output later.
	const int line = (begin + left_pixel) / a.wo, image = line / a.ho, ld = (int)g.in.ld;
	int x = (begin + left_pixel - line * a.wo) * a.stride_w + along, y = (line - image * a.ho) * a.stride_h + down,
	    at = ((image * a.h + y) * a.w + x) * ld;
	const int x_end = a.wo * a.stride_w + along, y_end = a.ho * a.stride_h + down;
	const int on = ((g.apart[0] * a.h + g.apart[1] * a.stride_h) * a.w + g.apart[2] * a.stride_w) * ld,
	          on_line = (a.stride_h * a.w - a.wo * a.stride_w) * ld, on_image = (a.h - a.ho * a.stride_h) * a.w * ld;

	auto copy = [&](int stage, int p0) {
		bf16 *left = stages + stage * STAGE + swizzled<ROWS>(left_pixel, left_vector),
		     *right = stages + stage * STAGE + LEFT + swizzled<COLS>(right_pixel, right_vector);
#pragma unroll
		for (int i = 0; i < LEFT_MINE; i++) {
			cp_async16_or_zero(left + i * (LEFT_APART * ROWS), x_from + at,
			                   p0 + i * LEFT_APART < left_end && (unsigned)y < (unsigned)a.h &&
			                           (unsigned)x < (unsigned)a.w);
			x += g.apart[2] * a.stride_w, y += g.apart[1] * a.stride_h, at += on;
			if (x >= x_end) x -= a.wo * a.stride_w, y += a.stride_h, at += on_line;
			if (y >= y_end) y -= a.ho * a.stride_h, at += on_image;
		}
#pragma unroll
		for (int i = 0; i < RIGHT_MINE; i++)
			cp_async16_or_zero(right + i * (RIGHT_APART * COLS), g_from + i * RIGHT_APART * g.grad.g_ld,
			                   p0 + i * RIGHT_APART < right_end);
		g_from += DEEP * g.grad.g_ld;
	};

	products<bf16, ROWS, COLS> out;
	out.clear();
#pragma unroll
	for (int s = 0; s < STAGES - 1; s++) {
		if (begin + s * DEEP < end) copy(s, begin + s * DEEP);
		cp_async_commit();
	}
	for (int p0 = begin, now = 0; p0 < end; p0 += DEEP) {
		cp_async_wait<STAGES - 2>();
		__syncthreads();
		const int ahead = p0 + (STAGES - 1) * DEEP;
		if (ahead < end) copy(now ? now - 1 : STAGES - 1, ahead);
		cp_async_commit();
		out.template add_swizzled<DEEP>(stages + now * STAGE, stages + now * STAGE + LEFT);
		now = now + 1 < STAGES ? now + 1 : 0;
	}
	store_weight<bf16, ROWS, COLS>(args, out);
}

} // namespace

// Grid: as those of conv.cu.
CTN_ENTRY(cu_conv_plain_64, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<64, false>(g); }
CTN_ENTRY(cu_conv_plain_128, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<128, false>(g); }
CTN_ENTRY(cu_conv_input_plain_64, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<64, true>(g); }
CTN_ENTRY(cu_conv_input_plain_128, const ctn_conv_gpu_args g, BLOCK, 2) { convolve<128, true>(g); }

// Grid: as those of conv_weight.cu.
CTN_ENTRY(cu_conv_weight_plain_64, const __grid_constant__ ctn_conv_weight_gpu_args g, BLOCK, 2) { weigh<64>(g); }
CTN_ENTRY(cu_conv_weight_plain_128, const __grid_constant__ ctn_conv_weight_gpu_args g, BLOCK, 2) { weigh<128>(g); }
