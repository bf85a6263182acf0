// Depthwise convolutions. The usual ones, 3, 5 or 7 taps wide with stride 1 or 2, go down the rows of an image: a block
// has some columns and channels, its threads load a row by 16 bytes each, apply what stands before the convolution once
// and leave it in shared memory as float32; a thread then has two channels of some columns side by side, and keeps in
// registers what the rows around have to do with. Everything is read once, but for columns and rows at the blocks'
// borders. The others are computed pixel by pixel.
#include "../exec/cuda.cuh"
#include "../tensor/sweep.cuh"
#include "depthwise.h"

namespace {

constexpr int THREADS = CTN_DEPTHWISE_THREADS;

// ---- two channels ---------------------------------------------------------------

template <class T> __device__ __forceinline__ bool pair_whole(const void *p, int64_t ld, int c, int n) {
	return n == 2 && (((uint64_t)p | (uint64_t)(ld * (int64_t)sizeof(T)) | (uint64_t)(c * (int64_t)sizeof(T))) &
	                  (2 * sizeof(T) - 1)) == 0;
}
// As they are stored, for pair_of.
__device__ __forceinline__ float2 load_pair(const float *p, int n, bool wide) {
	if (wide) return *(const float2 *)p;
	return make_float2(n > 0 ? p[0] : 0.0f, n > 1 ? p[1] : 0.0f);
}
__device__ __forceinline__ uint32_t load_pair(const bf16 *p, int n, bool wide) {
	if (wide) return *(const uint32_t *)p;
	return (n > 0 ? (uint32_t)p[0].bits : 0) | (n > 1 ? (uint32_t)p[1].bits << 16 : 0);
}
__device__ __forceinline__ float2 pair_of(float2 x) { return x; }
__device__ __forceinline__ float2 pair_of(uint32_t x) { return unpack_bf16(x); }
// A number for each of the two channels; `otherwise` where there is none.
__device__ __forceinline__ float2 pair_channels(const float *p, int c, int n, float otherwise) {
	if (!p) return make_float2(otherwise, otherwise);
	return make_float2(n > 0 ? __ldg(p + c) : 0.0f, n > 1 ? __ldg(p + c + 1) : 0.0f);
}
// Stores v and leaves in it what was stored.
__device__ __forceinline__ void store_pair(float *p, int n, bool wide, float (&v)[2]) {
	if (wide) *(float2 *)p = make_float2(v[0], v[1]);
	else {
		if (n > 0) p[0] = v[0];
		if (n > 1) p[1] = v[1];
	}
}
__device__ __forceinline__ void store_pair(bf16 *p, int n, bool wide, float (&v)[2]) {
	const uint32_t pair = pack_bf16(v[0], v[1]);
	const float2 f = unpack_bf16(pair);
	v[0] = f.x, v[1] = f.y;
	if (wide) *(uint32_t *)p = pair;
	else {
		if (n > 0) p[0].bits = (uint16_t)pair;
		if (n > 1) p[1].bits = (uint16_t)(pair >> 16);
	}
}

// ---- what a block and a thread have ---------------------------------------------

template <class T> struct place {
	static constexpr int N = LANES<T>;
	int pairs, pair, strips, strip; // pairs of channels and strips of columns, one of each a thread
	int width, pitch;               // channels of the block; floats from a column to the next in shared memory
	int c0, c, n;                   // the block's first channel; the thread's two, of which n exist
	// 16-byte vectors of a column; the thread's when it loads, its first channel, how many exist; the thread's first
	// column then, and how far it is to the next one.
	int vectors, vector, vc, vn, column, apart;
	int chunk, part, tile, band, n0, n1;
	__device__ __forceinline__ place(const ctn_depthwise_args &g) {
		strips = (int)g.strips, pairs = THREADS / strips;
		pair = threadIdx.x % pairs, strip = threadIdx.x / pairs;
		width = 2 * pairs, pitch = width == 16 ? 20 : width; // so that two strips lie in different banks
		const int chunks = (int)g.chunks;
		part = blockIdx.x / chunks, chunk = blockIdx.x - part * chunks;
		c0 = chunk * width, c = c0 + 2 * pair, n = max(0, min(2, (int)g.c - c));
		vectors = width / N, vector = threadIdx.x % vectors, vc = c0 + vector * N, vn = max(0, min(N, (int)g.c - vc));
		column = threadIdx.x / vectors, apart = THREADS / vectors; // strips are a power of two: nothing is left over
		tile = part % (int)g.tiles, band = part / (int)g.tiles % (int)g.bands;
		n0 = part / ((int)g.tiles * (int)g.bands) * (int)g.images, n1 = min(n0 + (int)g.images, (int)g.n);
	}
};

// Vectors of a row that a thread loads at most: see tile in depthwise_gpu.go.
template <class T> constexpr int LOADS = 16 / LANES<T>;

// Coefficients in shared memory, rows of a block's channels; `otherwise` where there are none.
__device__ __forceinline__ void keep(const float *p, int c0, int width, int64_t channels, float otherwise, float *to) {
	for (int i = threadIdx.x; i < width; i += THREADS)
		to[i] = !p ? otherwise : c0 + i < channels ? __ldg(p + c0 + i) : 0.0f;
}

// ---- forward --------------------------------------------------------------------

// Step t of a band takes rows STRIDE t .. STRIDE t + STRIDE - 1 of the input, from the first that the band's first
// output row meets; output row t - REACH is complete after it. Accumulator q belongs to output row t - q.
template <class T, int K, int STRIDE> __device__ __forceinline__ void forward(const ctn_depthwise_args &g) {
	constexpr int COLUMNS = 4 / STRIDE, REACH = (K - 1) / STRIDE, NEAR = (COLUMNS - 1) * STRIDE + K, N = LANES<T>;
	DYNAMIC_SHARED(float, shared);
	const place<T> s(g);
	const int columns = ((int)g.tile - 1) * STRIDE + K, h = (int)g.h, w = (int)g.w, wo = (int)g.wo,
	          row = columns * s.pitch;
	const int ox0 = s.tile * (int)g.tile, x0 = ox0 * STRIDE - (int)g.pad_w, y0 = s.band * (int)g.band,
	          y1 = min(y0 + (int)g.band, (int)g.ho);
	float *coefficients = shared, *buffer = shared + 3 * s.width; // scale, shift, gate; two times STRIDE rows
	float weight[K][K][2];
#pragma unroll
	for (int k = 0; k < K * K; k++)
#pragma unroll
		for (int i = 0; i < 2; i++) weight[k / K][k % K][i] = i < s.n ? __ldg(g.weight + k * g.c + s.c + i) : 0.0f;
	keep(g.in.scale, s.c0, s.width, g.c, 1.0f, coefficients);
	keep(g.in.shift, s.c0, s.width, g.c, 0.0f, coefficients + s.width);
	const bool wide_in = input_whole<T>(&g.in, s.vc, s.vn, N), wide = pair_whole<T>(g.out, g.out_ld, s.c, s.n);
	const bool mine = s.strip * COLUMNS < (int)g.tile;
	forward_sums<2> sums;

	for (int n = s.n0; n < s.n1; n++) {
		__syncthreads();
		keep(g.in.gate ? g.in.gate + n * g.in.gate_ld : nullptr, s.c0, s.width, g.c, 1.0f, coefficients + 2 * s.width);
		uint4 raw[STRIDE][LOADS<T>];
		auto fetch = [&](int step) {
#pragma unroll
			for (int r = 0; r < STRIDE; r++) {
				const int y = y0 * STRIDE - (int)g.pad_h + step * STRIDE + r;
				const T *from = (const T *)g.in.z + (int64_t)(n * h + y) * w * g.in.ld + s.vc;
#pragma unroll
				for (int l = 0; l < LOADS<T>; l++) {
					const int x = x0 + late(s.column) + l * s.apart;
					if (y >= 0 && y < h && x >= 0 && x < w && x < x0 + columns)
						raw[r][l] = load_raw(from + x * g.in.ld, s.vn, wide_in);
				}
			}
		};
		auto place_rows = [&](int step) {
#pragma unroll
			for (int r = 0; r < STRIDE; r++) {
				const int y = y0 * STRIDE - (int)g.pad_h + step * STRIDE + r;
#pragma unroll
				for (int l = 0; l < LOADS<T>; l++) {
					const int column = late(s.column) + l * s.apart, x = x0 + column;
					if (column >= columns) continue;
					float v[N] = {};
					if (y >= 0 && y < h && x >= 0 && x < w) {
						unpack(raw[r][l], v);
						const float *k = coefficients + s.vector * N;
						if (g.in.scale) {
#pragma unroll
							for (int i = 0; i < N; i++) v[i] = v[i] * k[i] + k[s.width + i];
						}
						activate(v, g.in.act);
						if (g.in.gate) {
#pragma unroll
							for (int i = 0; i < N; i++) v[i] *= k[2 * s.width + i];
						}
					}
					float *to = buffer + ((step & 1) * STRIDE + r) * row + column * s.pitch + s.vector * N;
#pragma unroll
					for (int i = 0; i < N; i += 4)
						*(float4 *)(to + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
				}
			}
		};
		float sum[REACH + 1][COLUMNS][2] = {};
		const int steps = y1 - y0 + REACH;
		fetch(0);
		__syncthreads(); // the coefficients are there
		place_rows(0);
		for (int t = 0; t < steps; t++) {
			__syncthreads();
			if (t + 1 < steps) fetch(t + 1);
#pragma unroll
			for (int r = 0; r < STRIDE; r++) {
				float near[NEAR][2];
				const float *from = buffer + ((t & 1) * STRIDE + r) * row +
				                    (mine ? s.strip : 0) * COLUMNS * STRIDE * s.pitch + 2 * s.pair;
#pragma unroll
				for (int i = 0; i < NEAR; i++) {
					const float2 f = *(const float2 *)(from + i * s.pitch);
					near[i][0] = f.x, near[i][1] = f.y;
				}
#pragma unroll
				for (int ky = r; ky < K; ky += STRIDE)
#pragma unroll
					for (int kx = 0; kx < K; kx++)
#pragma unroll
						for (int j = 0; j < COLUMNS; j++)
#pragma unroll
							for (int i = 0; i < 2; i++)
								sum[ky / STRIDE][j][i] += weight[ky][kx][i] * near[j * STRIDE + kx][i];
			}
			if (t + 1 < steps) place_rows(t + 1);
			if (t >= REACH && mine) {
				T *to = (T *)g.out +
				        ((int64_t)(n * (int)g.ho + y0 + t - REACH) * wo + ox0 + s.strip * COLUMNS) * g.out_ld + s.c;
#pragma unroll
				for (int j = 0; j < COLUMNS; j++) {
					if (ox0 + s.strip * COLUMNS + j >= wo) break;
					store_pair(to + j * g.out_ld, s.n, wide, sum[REACH][j]);
					if (g.stats) sums.add(sum[REACH][j]);
				}
			}
#pragma unroll
			for (int q = REACH; q > 0; q--)
#pragma unroll
				for (int j = 0; j < COLUMNS; j++)
#pragma unroll
					for (int i = 0; i < 2; i++) sum[q][j][i] = sum[q - 1][j][i];
#pragma unroll
			for (int j = 0; j < COLUMNS; j++) sum[0][j][0] = sum[0][j][1] = 0.0f;
		}
	}
	if (g.stats)
		leave_sums<forward_sums<2>, 2>(sums, s.pair, s.pairs, s.strip, s.strips, s.c0, (int)g.c - s.c0, g.stats, g.c,
		                               g.norm, s.part, s.chunk, shared);
}

// ---- backward -------------------------------------------------------------------

// A block has rows y0..y1 of the input, and step r takes row r of the gradient in the output, which has to do with
// input rows STRIDE r - pad + ky. Window row ky holds that input row's values, as the convolution read them, and its
// gradient so far. After the step the first STRIDE rows are complete and leave. Columns are counted from one where x +
// pad is a multiple of STRIDE, so that it is known when compiling which columns meet which taps.
template <class T, int K, int STRIDE, int COLUMNS>
__device__ __forceinline__ void backward(const ctn_depthwise_args &g) {
	constexpr int REACH = (K - 1) / STRIDE, NEAR = (COLUMNS - 1) / STRIDE + REACH + 1, N = LANES<T>;
	DYNAMIC_SHARED(float, shared);
	const place<T> s(g);
	const int tile = (int)g.tile, columns = (tile - 1) / STRIDE + REACH + 1, h = (int)g.h, w = (int)g.w, ho = (int)g.ho,
	          wo = (int)g.wo, row = columns * s.pitch;
	const int pad_h = (int)g.pad_h, pad_w = (int)g.pad_w, x0 = s.tile * tile - pad_w % STRIDE,
	          ox0 = (x0 + pad_w) / STRIDE - REACH;
	const int y0 = s.band * (int)g.band, y1 = min(y0 + (int)g.band, h);
	// p, q, r, and the sink's scale, shift, mean, invstd; K x K x channels; two rows
	float *coefficients = shared, *weight = shared + 7 * s.width, *buffer = weight + K * K * s.width;
	for (int k = 0; k < K * K; k++) keep(g.weight + k * g.c, s.c0, s.width, g.c, 0.0f, weight + k * s.width);
	keep(g.grad.p, s.c0, s.width, g.c, 1.0f, coefficients);
	keep(g.grad.q, s.c0, s.width, g.c, 0.0f, coefficients + s.width);
	keep(g.grad.r, s.c0, s.width, g.c, 0.0f, coefficients + 2 * s.width);
	const bool normed = g.sink.last && g.sink.of.scale;
	keep(normed ? g.sink.of.scale : nullptr, s.c0, s.width, g.c, 1.0f, coefficients + 3 * s.width);
	keep(normed ? g.sink.of.shift : nullptr, s.c0, s.width, g.c, 0.0f, coefficients + 4 * s.width);
	keep(g.sink.stats ? g.sink.mean : nullptr, s.c0, s.width, g.c, 0.0f, coefficients + 5 * s.width);
	keep(g.sink.stats ? g.sink.invstd : nullptr, s.c0, s.width, g.c, 0.0f, coefficients + 6 * s.width);
	const bool wide_grad = gradient_whole<T>(&g.grad, s.vc, s.vn, N),
	           wide_in = pair_whole<T>(g.in.z, g.in.ld, s.c, s.n);
	const bool wide_sink = pair_whole<T>(g.sink.d, g.sink.ld, s.c, s.n),
	           wide_of = g.sink.last && pair_whole<T>(g.sink.of.z, g.sink.of.ld, s.c, s.n);
	const int first = x0 + s.strip * COLUMNS; // the thread's first column
	const bool mine = s.strip * COLUMNS < tile;
	const float2 scale = pair_channels(g.in.scale, s.c, s.n, 1), shift = pair_channels(g.in.shift, s.c, s.n, 0);
	float dweight[K][K][2] = {};
	backward_sums<2> sums;

	for (int n = s.n0; n < s.n1; n++) {
		const float2 gate = pair_channels(g.in.gate ? g.in.gate + n * g.in.gate_ld : nullptr, s.c, s.n, 1);
		uint4 raw[LOADS<T>], raw_z[LOADS<T>];
		auto fetch = [&](int oy) {
#pragma unroll
			for (int l = 0; l < LOADS<T>; l++) {
				const int column = late(s.column) + l * s.apart, x = ox0 + column;
				if (oy < 0 || oy >= ho || x < 0 || x >= wo || column >= columns) continue;
				const int64_t pixel = (int64_t)(n * ho + oy) * wo + x;
				raw[l] = load_raw((const T *)g.grad.g + pixel * g.grad.g_ld + s.vc, s.vn, wide_grad);
				if (g.grad.p) raw_z[l] = load_raw((const T *)g.grad.z + pixel * g.grad.z_ld + s.vc, s.vn, wide_grad);
			}
		};
		auto place_row = [&](int oy, int half) {
#pragma unroll
			for (int l = 0; l < LOADS<T>; l++) {
				const int column = late(s.column) + l * s.apart, x = ox0 + column;
				if (column >= columns) continue;
				float v[N] = {};
				if (oy >= 0 && oy < ho && x >= 0 && x < wo) {
					unpack(raw[l], v);
					if (g.grad.p) {
						float z[N];
						unpack(raw_z[l], z);
						const float *k = coefficients + s.vector * N;
#pragma unroll
						for (int i = 0; i < N; i++) v[i] = k[i] * v[i] + (k[s.width + i] * z[i] + k[2 * s.width + i]);
					}
				}
				float *to = buffer + half * row + column * s.pitch + s.vector * N;
#pragma unroll
				for (int i = 0; i < N; i += 4) *(float4 *)(to + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
			}
		};
		decltype(load_pair((const T *)nullptr, 0, false)) z[STRIDE][COLUMNS]; // of the rows that come next
		auto fetch_input = [&](int y) {
#pragma unroll
			for (int r = 0; r < STRIDE; r++)
#pragma unroll
				for (int j = 0; j < COLUMNS; j++)
					if (mine && y + r >= y0 && y + r < y1 && first + j >= 0 && first + j < w)
						z[r][j] = load_pair((const T *)g.in.z + ((int64_t)(n * h + y + r) * w + first + j) * g.in.ld +
						                            s.c,
						                    s.n, wide_in);
		};
		float a[K][COLUMNS][2] = {}, din[K][COLUMNS][2] = {};
		auto place_input = [&](int y) { // into the window's last rows
#pragma unroll
			for (int r = 0; r < STRIDE; r++)
#pragma unroll
				for (int j = 0; j < COLUMNS; j++) {
					float v[2] = {0, 0};
					if (mine && y + r >= y0 && y + r < y1 && first + j >= 0 && first + j < w) {
						const float2 x = pair_of(z[r][j]);
						v[0] = x.x, v[1] = x.y;
						if (g.in.scale) v[0] = v[0] * scale.x + shift.x, v[1] = v[1] * scale.y + shift.y;
						activate(v, g.in.act);
						v[0] *= gate.x, v[1] *= gate.y;
					}
					a[K - STRIDE + r][j][0] = v[0], a[K - STRIDE + r][j][1] = v[1];
				}
		};
		// The first row of the gradient that meets row y0, rounded up, and the last that meets row y1 - 1.
		const int low = y0 + pad_h - K + 1, begin = low >= 0 ? (low + STRIDE - 1) / STRIDE : -(-low / STRIDE),
		          end = (y1 - 1 + pad_h) / STRIDE;
		fetch(begin);
		fetch_input(begin * STRIDE - pad_h + K - STRIDE);
		__syncthreads(); // the coefficients are there, and the last image's rows are done with
		place_row(begin, 0);
		for (int r = begin; r <= end; r++) {
			const int half = (r - begin) & 1, y = r * STRIDE - pad_h;
			place_input(y + K - STRIDE);
			__syncthreads();
			if (r < end) fetch(r + 1), fetch_input(y + K);
			float near[NEAR][2];
			const float *from = buffer + half * row + (mine ? s.strip : 0) * (COLUMNS / STRIDE) * s.pitch + 2 * s.pair;
#pragma unroll
			for (int i = 0; i < NEAR; i++) {
				const float2 f = *(const float2 *)(from + i * s.pitch);
				near[i][0] = f.x, near[i][1] = f.y;
			}
#pragma unroll
			for (int ky = 0; ky < K; ky++)
#pragma unroll
				for (int kx = 0; kx < K; kx++) {
					const float2 f = *(const float2 *)(weight + (ky * K + kx) * s.width + 2 * s.pair);
#pragma unroll
					for (int j = 0; j < COLUMNS; j++) {
						if ((j - kx) % STRIDE) continue;
						const int at = (j - kx) / STRIDE + REACH;
						din[ky][j][0] += f.x * near[at][0], din[ky][j][1] += f.y * near[at][1];
						dweight[ky][kx][0] += a[ky][j][0] * near[at][0],
						        dweight[ky][kx][1] += a[ky][j][1] * near[at][1];
					}
				}
			if (r < end) place_row(r + 1, half ^ 1);
			if (g.sink.d && mine) {
				auto of = [&](int i) { return *(const float2 *)(coefficients + (3 + i) * s.width + 2 * late(s.pair)); };
				const float2 of_scale = of(0), of_shift = of(1), mean = of(2), invstd = of(3);
#pragma unroll
				for (int q = 0; q < STRIDE; q++)
#pragma unroll
					for (int j = 0; j < COLUMNS; j++) {
						if (y + q < y0 || y + q >= y1 || first + j < 0 || first + j >= w) continue;
						const int64_t pixel = (int64_t)(n * h + y + q) * w + first + j;
						T *to = (T *)g.sink.d + pixel * g.sink.ld + s.c;
						float(&v)[2] = din[q][j];
						if (g.sink.accumulate) {
							const float2 old = pair_of(load_pair((const T *)to, s.n, wide_sink));
							v[0] += old.x, v[1] += old.y;
						}
						float2 x = make_float2(0, 0);
						if (g.sink.last) {
							x = pair_of(load_pair((const T *)g.sink.of.z + pixel * g.sink.of.ld + s.c, s.n, wide_of));
							const float u[2] = {normed ? x.x * of_scale.x + of_shift.x : x.x,
							                    normed ? x.y * of_scale.y + of_shift.y : x.y};
							times_slope(v, u, g.sink.of.act);
						}
						store_pair(to, s.n, wide_sink, v);
						if (!g.sink.stats) continue;
						sums.row[0][0] += v[0], sums.row[0][1] += v[1];
						sums.row[1][0] += v[0] * ((x.x - mean.x) * invstd.x),
						        sums.row[1][1] += v[1] * ((x.y - mean.y) * invstd.y);
					}
			}
#pragma unroll
			for (int ky = 0; ky < K; ky++)
#pragma unroll
				for (int j = 0; j < COLUMNS; j++)
#pragma unroll
					for (int i = 0; i < 2; i++) {
						a[ky][j][i] = ky + STRIDE < K ? a[ky + STRIDE < K ? ky + STRIDE : 0][j][i] : 0.0f;
						din[ky][j][i] = ky + STRIDE < K ? din[ky + STRIDE < K ? ky + STRIDE : 0][j][i] : 0.0f;
					}
		}
	}
	// The weight's gradient: over the strips, in order, a row of taps at a time.
	const int chunk = late(blockIdx.x) % (int)g.chunks, part = late(blockIdx.x) / (int)g.chunks, c0 = chunk * s.width;
#pragma unroll
	for (int ky = 0; ky < K; ky++) {
		__syncthreads();
#pragma unroll
		for (int kx = 0; kx < K; kx++)
			*(float2 *)(shared + (s.strip * K + kx) * s.width + 2 * s.pair) =
			        make_float2(dweight[ky][kx][0], dweight[ky][kx][1]);
		__syncthreads();
		for (int i = threadIdx.x; i < K * s.width; i += THREADS) {
			const int c = c0 + i % s.width;
			float sum = 0;
			for (int q = 0; q < s.strips; q++) sum += shared[q * K * s.width + i];
			if (c < g.c) g.partial[((int64_t)part * K * K + ky * K + i / s.width) * g.c + c] = sum;
		}
	}
	if (g.sink.stats)
		leave_sums<backward_sums<2>, 2>(sums, s.pair, s.pairs, s.strip, s.strips, c0, (int)g.c - c0, g.sink.stats,
		                                g.sink.stats_ld, g.sink.norm, part, chunk, shared);
}

// ---- the others, pixel by pixel -------------------------------------------------

template <class T> __device__ __forceinline__ void any_forward(const ctn_depthwise_args &g) {
	constexpr int N = LANES<T>;
	const int h = (int)g.h, w = (int)g.w, ho = (int)g.ho, wo = (int)g.wo, k = (int)g.k;
	const sweep<T> s(g.groups, g.c, g.block, g.n * g.ho * g.wo);
	const input_channels<N> in(&g.in, s.c, s.n);
	const bool wide_in = input_whole<T>(&g.in, s.c, s.n, N), wide = whole<T>(g.out, g.out_ld, s.c, s.n, N),
	           wide_weight = whole<float>(g.weight, g.c, s.c, s.n, N);
	forward_sums<N> sums;
	for (int o = s.first; o < s.end; o += s.strips) {
		const int n = o / (ho * wo), y0 = o / wo % ho * (int)g.stride - (int)g.pad_h,
		          x0 = o % wo * (int)g.stride - (int)g.pad_w;
		float sum[N] = {};
		for (int t = 0; t < k * k; t++) {
			const int y = y0 + t / k * (int)g.dilation, x = x0 + t % k * (int)g.dilation;
			if (y < 0 || y >= h || x < 0 || x >= w) continue;
			float v[N], f[N];
			input_part<T>(&g.in, in, (n * h + y) * w + x, s.c, s.n, wide_in, v);
			load_part(g.weight + t * g.c + s.c, s.n, wide_weight, f);
#pragma unroll
			for (int i = 0; i < N; i++) sum[i] += v[i] * f[i];
		}
		store_part((T *)g.out + o * g.out_ld + s.c, s.n, wide, sum);
		if (g.stats) sums.add(sum);
	}
	if (g.stats) s.leave(sums, g.c, g.stats, g.c, g.norm);
}

template <class T> __device__ __forceinline__ void any_input(const ctn_depthwise_args &g) {
	constexpr int N = LANES<T>;
	const int h = (int)g.h, w = (int)g.w, ho = (int)g.ho, wo = (int)g.wo, k = (int)g.k, stride = (int)g.stride;
	const sweep<T> s(g.groups, g.c, g.block, g.n * g.h * g.w);
	const gradient_channels<N> grad(&g.grad, s.c, s.n);
	const sink_channels<N> sink(&g.sink, s.c, s.n);
	const bool wide = gradient_whole<T>(&g.grad, s.c, s.n, N), wide_sink = sink_whole<T>(&g.sink, s.c, s.n, N),
	           wide_weight = whole<float>(g.weight, g.c, s.c, s.n, N);
	backward_sums<N> sums;
	for (int p = s.first; p < s.end; p += s.strips) {
		const int n = p / (h * w), y = p / w % h + (int)g.pad_h, x = p % w + (int)g.pad_w;
		float sum[N] = {};
		for (int t = 0; t < k * k; t++) {
			const int oy = y - t / k * (int)g.dilation, ox = x - t % k * (int)g.dilation;
			if (oy < 0 || ox < 0 || oy % stride || ox % stride || oy / stride >= ho || ox / stride >= wo) continue;
			float v[N], f[N];
			gradient_part<T>(&g.grad, grad, (n * ho + oy / stride) * wo + ox / stride, s.c, s.n, wide, v);
			load_part(g.weight + t * g.c + s.c, s.n, wide_weight, f);
#pragma unroll
			for (int i = 0; i < N; i++) sum[i] += v[i] * f[i];
		}
		sink_part<T>(&g.sink, sink, p, s.c, s.n, wide_sink, sum, sums);
	}
	if (g.sink.stats) s.leave(sums, g.c, g.sink.stats, g.sink.stats_ld, g.sink.norm);
}

template <class T> __device__ __forceinline__ void any_weight(const ctn_depthwise_args &g) {
	constexpr int N = LANES<T>;
	const int h = (int)g.h, w = (int)g.w, ho = (int)g.ho, wo = (int)g.wo, k = (int)g.k;
	const sweep<T> s(g.groups, g.c, g.weight_block, g.n * g.ho * g.wo);
	const input_channels<N> in(&g.in, s.c, s.n);
	const gradient_channels<N> grad(&g.grad, s.c, s.n);
	const bool wide_in = input_whole<T>(&g.in, s.c, s.n, N), wide = gradient_whole<T>(&g.grad, s.c, s.n, N),
	           whole_weight = whole<float>(g.partial, g.c, s.c, s.n, N);
	for (int t = 0; t < k * k; t++) {
		float sum[N] = {};
		for (int o = s.first; o < s.end; o += s.strips) {
			const int n = o / (ho * wo), y = o / wo % ho * (int)g.stride - (int)g.pad_h + t / k * (int)g.dilation;
			const int x = o % wo * (int)g.stride - (int)g.pad_w + t % k * (int)g.dilation;
			if (y < 0 || y >= h || x < 0 || x >= w) continue;
			float v[N], d[N];
			input_part<T>(&g.in, in, (n * h + y) * w + x, s.c, s.n, wide_in, v);
			gradient_part<T>(&g.grad, grad, o, s.c, s.n, wide, d);
#pragma unroll
			for (int i = 0; i < N; i++) sum[i] += v[i] * d[i];
		}
		s.add_strips(sum);
		if (s.strip == 0 && s.n > 0)
			store_part(g.partial + ((int64_t)blockIdx.y * k * k + t) * g.c + s.c, s.n, whole_weight, sum);
		__syncthreads();
	}
}

} // namespace

// Grid: parts (images, bands of rows, tiles of columns), some channels of each; channels fastest.
CTN_ENTRY(cu_depthwise_k3s1, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) { forward<float, 3, 1>(g); }
CTN_ENTRY(cu_depthwise_k5s1, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) { forward<float, 5, 1>(g); }
CTN_ENTRY(cu_depthwise_k7s1, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) { forward<float, 7, 1>(g); }
CTN_ENTRY(cu_depthwise_k3s2, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) { forward<float, 3, 2>(g); }
CTN_ENTRY(cu_depthwise_k5s2, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) { forward<float, 5, 2>(g); }
CTN_ENTRY(cu_depthwise_k7s2, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) { forward<float, 7, 2>(g); }
CTN_ENTRY(cu_depthwise_k3s1_bf16, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) { forward<bf16, 3, 1>(g); }
CTN_ENTRY(cu_depthwise_k5s1_bf16, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) { forward<bf16, 5, 1>(g); }
CTN_ENTRY(cu_depthwise_k7s1_bf16, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) { forward<bf16, 7, 1>(g); }
CTN_ENTRY(cu_depthwise_k3s2_bf16, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) { forward<bf16, 3, 2>(g); }
CTN_ENTRY(cu_depthwise_k5s2_bf16, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) { forward<bf16, 5, 2>(g); }
CTN_ENTRY(cu_depthwise_k7s2_bf16, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) { forward<bf16, 7, 2>(g); }

// Grid: the same, over the input. Both gradients; a part's share of the weight's is left to be added up.
CTN_ENTRY(cu_depthwise_backward_k3s1, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) {
	backward<float, 3, 1, 4>(g);
}
CTN_ENTRY(cu_depthwise_backward_k5s1, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) {
	backward<float, 5, 1, 2>(g);
}
CTN_ENTRY(cu_depthwise_backward_k7s1, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) {
	backward<float, 7, 1, 2>(g);
}
CTN_ENTRY(cu_depthwise_backward_k3s2, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) {
	backward<float, 3, 2, 4>(g);
}
CTN_ENTRY(cu_depthwise_backward_k5s2, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) {
	backward<float, 5, 2, 2>(g);
}
CTN_ENTRY(cu_depthwise_backward_k7s2, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) {
	backward<float, 7, 2, 2>(g);
}
CTN_ENTRY(cu_depthwise_backward_k3s1_bf16, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) {
	backward<bf16, 3, 1, 4>(g);
}
CTN_ENTRY(cu_depthwise_backward_k5s1_bf16, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) {
	backward<bf16, 5, 1, 2>(g);
}
CTN_ENTRY(cu_depthwise_backward_k7s1_bf16, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) {
	backward<bf16, 7, 1, 2>(g);
}
CTN_ENTRY(cu_depthwise_backward_k3s2_bf16, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) {
	backward<bf16, 3, 2, 4>(g);
}
CTN_ENTRY(cu_depthwise_backward_k5s2_bf16, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) {
	backward<bf16, 5, 2, 2>(g);
}
CTN_ENTRY(cu_depthwise_backward_k7s2_bf16, const ctn_depthwise_args g, CTN_DEPTHWISE_THREADS) {
	backward<bf16, 7, 2, 2>(g);
}

// Grid: a sweep over the output, the input, the output: other sizes, strides and dilations. Bound by L1: every tap is a
// load.
CTN_ENTRY(cu_depthwise_any, const ctn_depthwise_args g, CTN_SWEEP_THREADS) { any_forward<float>(g); }
CTN_ENTRY(cu_depthwise_any_bf16, const ctn_depthwise_args g, CTN_SWEEP_THREADS) { any_forward<bf16>(g); }
CTN_ENTRY(cu_depthwise_input, const ctn_depthwise_args g, CTN_SWEEP_THREADS) { any_input<float>(g); }
CTN_ENTRY(cu_depthwise_input_bf16, const ctn_depthwise_args g, CTN_SWEEP_THREADS) { any_input<bf16>(g); }
CTN_ENTRY(cu_depthwise_weight, const ctn_depthwise_args g, CTN_SWEEP_THREADS) { any_weight<float>(g); }
CTN_ENTRY(cu_depthwise_weight_bf16, const ctn_depthwise_args g, CTN_SWEEP_THREADS) { any_weight<bf16>(g); }
