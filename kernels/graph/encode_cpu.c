// The comparator's layers over small graphs, graph by graph: eight rows are multiplied at once.
#ifndef CTN_LANES
#include "encode.h"
#define CTN_SELF "encode_cpu.c"
#include "../exec/levels.h"
CTN_TABLE(ctn_encode_prepare, encode_prepare)
CTN_TABLE(ctn_encode, encode)
CTN_TABLE(ctn_encode_back, encode_back)
CTN_TABLE(ctn_encode_weights, encode_weights)
#else

#undef NODES
#undef CHUNK
#undef BAND
#define NODES CTN_ENCODE_NODES
#define CHUNK CTN_ENCODE_CHUNK
#define BAND CTN_ENCODE_BAND

CTN_INLINE int64_t FN(encode_size)(const ctn_encode_args *g) { return (int64_t)g->width * g->width; }
CTN_INLINE float *FN(encode_rows)(const ctn_encode_args *g, void *buffer, int64_t layer, int64_t graph) {
	return (float *)buffer + (layer * g->rows + graph * NODES) * g->width;
}

// Transposes a matrix.
static int64_t FN(encode_prepare_tasks)(const void *p) { return ((const ctn_encode_args *)p)->layers; }
static void FN(encode_prepare_run)(const void *p, int64_t task, float *scratch) {
	(void)scratch;
	const ctn_encode_args *g = p;
	const float *in = g->w + g->weight[task];
	float *out = (float *)g->matrices + task * FN(encode_size)(g);
	for (int64_t i = 0; i < g->width; i++)
		for (int64_t j = 0; j < g->width; j++) out[j * g->width + i] = in[i * g->width + j];
}

// out = rows x m, eight rows.
CTN_INLINE void FN(encode_multiply)(float *out, const float *rows, const float *m, int64_t w) {
	for (int64_t j = 0; j < w; j += CTN_LANES) {
		vf sum[NODES] = {};
		for (int64_t k = 0; k < w; k++) {
			vf b = vload(m + k * w + j);
#pragma GCC unroll 8
			for (int v = 0; v < NODES; v++) sum[v] += rows[v * w + k] * b;
		}
#pragma GCC unroll 8
		for (int v = 0; v < NODES; v++) vstore(out + v * w + j, sum[v]);
	}
}

// Row v of out is the sum of the rows of node v's neighbors, columns [0, n) of rows w apart; backward, of the nodes
// whose neighbor v is.
CTN_INLINE void FN(encode_aggregate)(float *out, int64_t out_w, const float *in, int64_t w, int64_t n, uint64_t packed,
                                     int nodes, int back) {
	for (int v = 0; v < NODES; v++)
		for (int64_t j = 0; j < n; j += CTN_LANES) {
			vf sum = {};
			for (int u = 0; u < NODES; u++)
				if (back ? ctn_packed_neighbors(packed, u, nodes) >> v & 1
				         : ctn_packed_neighbors(packed, v, nodes) >> u & 1)
					sum += vload(in + u * w + j);
			vstore(out + v * out_w + j, sum);
		}
}

CTN_INLINE void FN(encode_embed)(const ctn_encode_args *g, float *h, uint64_t packed, int nodes) {
	for (int v = 0; v < NODES; v++)
		if (v < nodes)
			memcpy(h + v * g->width, g->w + g->embedding + (int64_t)ctn_packed_op(packed, v, g->alphabet) * g->width,
			       (size_t)g->width * sizeof(float));
		else memset(h + v * g->width, 0, (size_t)g->width * sizeof(float));
}

static int64_t FN(encode_tasks)(const void *p) { return ctn_div_up(ctn_size(((const ctn_encode_args *)p)->n), CHUNK); }
static void FN(encode_run)(const void *p, int64_t task, float *scratch) {
	const ctn_encode_args *g = p;
	int64_t w = g->width, end = ctn_min((task + 1) * CHUNK, ctn_size(g->n));
	float *h = scratch, *y = h + NODES * w, *z = y + NODES * w;
	for (int64_t i = task * CHUNK; i < end; i++) {
		uint64_t packed = ctn_packed(g->graphs, i);
		int nodes = ctn_packed_padded(packed, g->pad);
		FN(encode_embed)(g, h, packed, nodes);
		for (int64_t layer = 0; layer < g->layers; layer++) {
			FN(encode_aggregate)(y, w, h, w, w, packed, nodes, 0);
			FN(encode_multiply)(z, y, g->w + g->weight[layer], w);
			int relu = layer < g->layers - 1 || !g->linear_last;
			for (int v = 0; v < nodes; v++)
				for (int64_t j = 0; j < w; j += CTN_LANES) {
					vf x = vload(z + v * w + j);
					if (g->has_bias) x += vload(g->w + g->bias[layer] + j);
					if (g->residual) x += vload(h + v * w + j);
					vstore(h + v * w + j, relu ? vmaxf(x, (vf){}) : x);
				}
			if (g->kept) memcpy(FN(encode_rows)(g, g->kept, layer, i), h, (size_t)(NODES * w) * sizeof(float));
		}
		for (int64_t s = 0; s < g->heads; s++) {
			vf dot = {};
			for (int64_t j = 0; j < w; j += CTN_LANES) {
				vf sum = {};
				for (int v = 0; v < nodes; v++) sum += vload(h + v * w + j);
				dot += sum * vload(g->w + g->head + s * w + j);
			}
			g->score[i * g->heads + s] = vsum(dot) / (float)ctn_max(1, nodes);
		}
	}
}

static int64_t FN(encode_back_tasks)(const void *p) { return FN(encode_tasks)(p); }
static void FN(encode_back_run)(const void *p, int64_t task, float *scratch) {
	const ctn_encode_args *g = p;
	int64_t w = g->width, end = ctn_min((task + 1) * CHUNK, ctn_size(g->n));
	float *y = scratch, *z = y + NODES * w;
	for (int64_t i = task * CHUNK; i < end; i++) {
		uint64_t packed = ctn_packed(g->graphs, i);
		int nodes = ctn_packed_padded(packed, g->pad);
		float *d = FN(encode_rows)(g, g->drows, g->layers - 1, i);
		for (int v = 0; v < NODES; v++)
			for (int64_t j = 0; j < w; j += CTN_LANES) {
				vf sum = {};
				for (int64_t s = 0; v < nodes && s < g->heads; s++)
					sum += g->dscore[i * g->heads + s] / (float)nodes * vload(g->w + g->head + s * w + j);
				vstore(d + v * w + j, sum);
			}
		for (int64_t layer = g->layers - 1; layer >= 0; layer--) {
			if (layer < g->layers - 1 || !g->linear_last) {
				const float *h = FN(encode_rows)(g, g->kept, layer, i);
				for (int64_t e = 0; e < NODES * w; e += CTN_LANES)
					vstore(d + e, vselect(vload(h + e) > (vf){}, vload(d + e), (vf){}));
			}
			FN(encode_aggregate)(y, w, d, w, w, packed, nodes, 1);
			FN(encode_multiply)(z, y, (const float *)g->matrices + layer * FN(encode_size)(g), w);
			float *below = FN(encode_rows)(g, g->drows, layer ? layer - 1 : g->layers, i);
			for (int64_t e = 0; e < NODES * w; e += CTN_LANES)
				vstore(below + e, g->residual ? vload(z + e) + vload(d + e) : vload(z + e));
			d = below;
		}
	}
}

// Tasks: bands of the matrices' rows, the first of a matrix with its bias; the embedding; the head. Each goes through
// all graphs in order.
static int64_t FN(encode_weights_tasks)(const void *p) {
	const ctn_encode_args *g = p;
	return (int64_t)g->layers * (g->width / BAND) + 2;
}
static void FN(encode_weights_run)(const void *p, int64_t task, float *scratch) {
	const ctn_encode_args *g = p;
	int64_t w = g->width, n = ctn_size(g->n), bands = w / BAND, layer = ctn_min(task / bands, g->layers),
	        first = task % bands * BAND;
	int embedding = task == g->layers * bands;
	float *sum = scratch, *bias = sum + BAND * w, *h = bias + w, *y = h + NODES * w;
	memset(sum, 0, (size_t)((BAND + 1) * w) * sizeof(float));
	for (int64_t i = 0; i < n; i++) {
		uint64_t packed = ctn_packed(g->graphs, i);
		int nodes = ctn_packed_padded(packed, g->pad);
		if (layer < g->layers) {
			const float *d = FN(encode_rows)(g, g->drows, layer, i), *from = h;
			if (layer) from = FN(encode_rows)(g, g->kept, layer - 1, i);
			else FN(encode_embed)(g, h, packed, nodes);
			FN(encode_aggregate)(y, BAND, from + first, w, BAND, packed, nodes, 0);
			for (int64_t k = 0; k < BAND; k++)
				for (int64_t j = 0; j < w; j += CTN_LANES) {
					vf s = vload(sum + k * w + j);
					for (int v = 0; v < nodes; v++) s += y[v * BAND + k] * vload(d + v * w + j);
					vstore(sum + k * w + j, s);
				}
			for (int64_t j = 0; first == 0 && j < w; j += CTN_LANES) {
				vf s = vload(bias + j);
				for (int v = 0; v < nodes; v++) s += vload(d + v * w + j);
				vstore(bias + j, s);
			}
		} else if (embedding) {
			const float *d = FN(encode_rows)(g, g->drows, g->layers, i);
			for (int v = 0; v < nodes; v++) {
				float *to = sum + ctn_packed_op(packed, v, g->alphabet) * w;
				for (int64_t j = 0; j < w; j += CTN_LANES) vstore(to + j, vload(to + j) + vload(d + v * w + j));
			}
		} else {
			const float *last = FN(encode_rows)(g, g->kept, g->layers - 1, i);
			for (int64_t s = 0; s < g->heads; s++)
				for (int64_t j = 0; j < w; j += CTN_LANES) {
					vf mean = {};
					for (int v = 0; v < nodes; v++) mean += vload(last + v * w + j);
					vstore(sum + s * w + j,
					       vload(sum + s * w + j) + g->dscore[i * g->heads + s] / (float)ctn_max(1, nodes) * mean);
				}
		}
	}
	if (layer < g->layers) {
		memcpy(g->g + g->weight[layer] + first * w, sum, (size_t)(BAND * w) * sizeof(float));
		if (g->has_bias && first == 0) memcpy(g->g + g->bias[layer], bias, (size_t)w * sizeof(float));
	} else {
		int64_t rows = embedding ? g->alphabet : g->heads;
		memcpy(g->g + (embedding ? g->embedding : g->head), sum, (size_t)(rows * w) * sizeof(float));
	}
}
#endif
