// Batches of images of what the loader's workers have decoded: bytes in, normalised floats out.
#include "../exec/cuda.cuh"
#include "../exec/reduce.cuh"
#include "regions.h"

namespace {

constexpr int TILE = CTN_REGION_TILE, TAPS = CTN_REGION_TAPS, BLOCK = CTN_REGION_BLOCK, ROWS = BLOCK / TILE;

__device__ __forceinline__ float sample(uint8_t v) { return (float)v; }
__device__ __forceinline__ float sample(float v) { return v; }

// A pixel of the samples around it: each row of them first.
template <class T>
__device__ __forceinline__ void resample(const T *region, int width, int first_y, int rows, int first_x, int columns,
                                         const float *weight_y, const float *weight_x, float (&v)[3]) {
	v[0] = v[1] = v[2] = 0.0f;
	for (int j = 0; j < rows; j++) {
		const T *p = region + ((int64_t)(first_y + j) * width + first_x) * 3;
		float row[3] = {};
		for (int k = 0; k < columns; k++, p += 3) {
			const float w = weight_x[k * TILE];
#pragma unroll
			for (int c = 0; c < 3; c++) row[c] += w * sample(p[c]);
		}
		const float w = weight_y[j * TILE];
#pragma unroll
		for (int c = 0; c < 3; c++) v[c] += w * row[c];
	}
}

// The mean brightness of an image, in every thread of the block.
__device__ __forceinline__ float mean_grey(const ctn_regions_args &g, int image, int side) {
	const int most = (g.size + TILE - 1) / TILE, across = (side + TILE - 1) / TILE;
	double sum = 0;
	for (int t = threadIdx.x; t < across * across; t += BLOCK) sum += g.sums[(int64_t)image * most * most + t];
	return (float)(block_sum<BLOCK>(sum) / ((double)side * side));
}

} // namespace

// Grid: images, tiles of the output. A warp has a row of the tile. What another pass goes on with stays a level.
CTN_ENTRY(cu_regions, const ctn_regions_args g, CTN_REGION_BLOCK) {
	STATIC_SHARED(float[2][TAPS * TILE], weight); // of y and of x
	STATIC_SHARED(int[2][TILE], first);
	STATIC_SHARED(int[2][TILE], taps);
	STATIC_SHARED(float[ROWS][3 * TILE], line);
	const int image = blockIdx.x, side = g.section->side, across = (side + TILE - 1) / TILE;
	const int y0 = (int)blockIdx.y / across * TILE, x0 = (int)blockIdx.y % across * TILE;
	if (y0 >= side || image >= g.section->images) return;
	const ctn_draw &d = ctn_draws(g.section)[image];
	if (threadIdx.x < 2 * TILE) {
		const int axis = threadIdx.x / TILE, i = threadIdx.x % TILE, at = (axis ? x0 : y0) + i;
		if (at < side && d.form != CTN_REGION_NONE)
			taps[axis][i] =
			        ctn_region_weights(axis ? &d.x : &d.y, d.shrink, g.cubic, axis && d.flip ? side - 1 - at : at,
			                           &first[axis][i], &weight[axis][i], TILE);
	}
	__syncthreads();
	const uint8_t *region = (const uint8_t *)g.section + d.region;
	const int lane = threadIdx.x % TILE, warp = threadIdx.x / TILE, columns = min(TILE, side - x0);
	const bool more = g.sums || g.mix;
	bool sums = false;
	double grey = 0;
	for (int i = warp; i < min(TILE, side - y0); i += ROWS) {
		float v[3] = {};
		if (lane < columns && d.form != CTN_REGION_NONE) {
			if (d.form == CTN_REGION_BYTES)
				resample(region, d.width, first[0][i], taps[0][i], first[1][lane], taps[1][lane], weight[0] + i,
				         weight[1] + lane, v);
			else
				resample((const float *)region, d.width, first[0][i], taps[0][i], first[1][lane], taps[1][lane],
				         weight[0] + i, weight[1] + lane, v);
			if (g.cubic)
				for (int c = 0; c < 3; c++) v[c] = ctn_level(v[c]);
			sums = ctn_colours(&d, 0, v) < 3;
			if (sums) grey += ctn_grey(v);
			if (!more) ctn_normalise(&g, &d, y0 + i, x0 + lane, v);
		}
		// Through shared memory, so that neighbours write what lies side by side.
		__syncwarp();
#pragma unroll
		for (int c = 0; c < 3; c++) line[warp][3 * lane + c] = v[c];
		__syncwarp();
		float *out = g.out + (((int64_t)image * side + y0 + i) * side + x0) * 3;
#pragma unroll
		for (int c = 0; c < 3; c++)
			if (lane + TILE * c < 3 * columns) out[lane + TILE * c] = line[warp][lane + TILE * c];
	}
	if (!g.sums) return;
	const double sum = block_sum<BLOCK>(grey);
	const int most = (g.size + TILE - 1) / TILE;
	if (threadIdx.x == 0) g.sums[(int64_t)image * most * most + blockIdx.y] = (float)sum;
}

// Grid: of each image, or pair of them with mix, in turn its parts. Contrast, what colours change after it, and
// mixtures.
CTN_ENTRY(cu_regions_finish, const ctn_regions_args g, CTN_REGION_BLOCK) {
	const int images = g.section->images, side = g.section->side, parts = (g.size * g.size + BLOCK - 1) / BLOCK;
	const int i = (int)blockIdx.x / parts, j = g.mix ? images - 1 - i : i, begin = (int)blockIdx.x % parts * BLOCK;
	if (i > j || j >= images) return;
	const int at[2] = {i, j};
	const int pixel = begin + (int)threadIdx.x, both = i == j ? 1 : 2;
	if (begin >= side * side) return;
	float v[2][3];
#pragma unroll
	for (int k = 0; k < 2; k++) { // every thread of a block sees the same draw
		if (k == both) break;
		const ctn_draw &d = ctn_draws(g.section)[at[k]];
		v[k][0] = v[k][1] = v[k][2] = 0.0f;
		if (d.form == CTN_REGION_NONE) continue;
		int contrast = 0;
		while (contrast < 3 && d.colour[contrast] != CTN_CONTRAST) contrast++;
		const float level = contrast < 3 ? mean_grey(g, at[k], side) : 0.0f;
		if (pixel >= side * side) continue;
		const float *p = g.out + ((int64_t)at[k] * side * side + pixel) * 3;
		for (int c = 0; c < 3; c++) v[k][c] = p[c];
		if (contrast < 3) {
			ctn_blend(v[k], d.factor[contrast], level);
			ctn_colours(&d, contrast + 1, v[k]);
		}
		ctn_normalise(&g, &d, pixel / side, pixel % side, v[k]);
	}
	if (pixel >= side * side) return;
	const float weight = g.section->weight, rest = 1.0f - weight;
#pragma unroll
	for (int k = 0; k < 2; k++) {
		if (k == both) break;
		float *p = g.out + ((int64_t)at[k] * side * side + pixel) * 3;
		for (int c = 0; c < 3; c++) p[c] = both == 2 ? weight * v[k][c] + rest * v[1 - k][c] : v[k][c];
	}
}
