#include "graph.h"

enum {
	CTN_ENCODE_NODES = CTN_PIECE_ROWS, // rows that a graph takes, used or not
	CTN_ENCODE_LAYERS = 8,             // at most
	CTN_ENCODE_WIDTH = 256,
	CTN_ENCODE_HEADS = 2,
	CTN_ENCODE_ALPHABET = 8,
	CTN_ENCODE_CHUNK = 8,   // CPU: graphs a task
	CTN_ENCODE_BAND = 16,   // CPU: rows of a matrix's gradient a task
	CTN_ENCODE_BLOCK = 256, // GPU: threads a block, at most; fewer for few graphs
	CTN_ENCODE_TILE = 64,   // GPU: a block of the weights' gradient computes a square
	CTN_ENCODE_PART = CTN_ENCODE_TILE * CTN_ENCODE_TILE + CTN_ENCODE_TILE, // and sums of columns
	CTN_ENCODE_PART_ROWS = 256,                                            // a block has so many rows at least
	CTN_ENCODE_WEIGHTS_F32_BLOCK = 256,
	CTN_ENCODE_WEIGHTS_BF16_BLOCK = 128
};

// Layers are counted from 0. "rows" is CTN_ENCODE_NODES for each of n graphs, and some more so that whole tiles can be
// written. On a GPU in bf16 the buffers of no type hold bf16, otherwise float.
typedef struct ctn_encode_args {
	ctn_dim n;
	int64_t rows;
	int32_t width, layers, heads;
	int32_t alphabet; // rows of the embedding; with pad, the last one is the padding's
	int32_t pad;      // graphs have at least this many nodes
	int32_t residual, has_bias, linear_last;
	int64_t embedding, weight[CTN_ENCODE_LAYERS], bias[CTN_ENCODE_LAYERS], head; // offsets in w and g
	const int32_t *graphs;                                                       // [n, 2]
	const float *w;                                                              // [weights]
	float *score;                                                                // [n, heads]
	const float *dscore;                                                         // [n, heads]
	float *g;                                                                    // [weights]: their gradient

	// What the forward pass leaves for the backward pass; none when only scoring.
	void *kept;  // CPU: [layers, rows, width], the rows after each layer. GPU: [layers - 1, rows, width], what each
	             // matrix multiplied
	void *drows; // [layers, rows, width]: the gradient before each ReLU. CPU: and of the embedded rows
	uint32_t *positive; // GPU: [layers, rows, width] bits, the ReLUs that were open, in the order of the threads that
	                    // write and read them
	void *mean;         // GPU: [n, width]

	void *table;      // GPU: what prepare makes of layer 0's weights
	void *matrices;   // [layers, width, width], transposed; GPU: without layer 0's, transposed or in bf16
	float *parts;     // GPU: [squares, splits, CTN_ENCODE_PART]: sums of the weights' gradient over a part of the rows
	int32_t *arrived; // GPU: [squares]: how many parts are done; zero between launches
	int64_t splits;   // GPU: parts that there is room for
} ctn_encode_args;

// The graph as package graph packs it. Numbers out of range, which Pack does not make, must not lead out of the
// buffers.
CTN_FN uint64_t ctn_packed(const int32_t *graphs, int64_t i) {
	return (uint32_t)graphs[2 * i] | (uint64_t)(uint32_t)graphs[2 * i + 1] << 32;
}
CTN_FN int ctn_packed_nodes(uint64_t g) {
	int n = (int)(g >> 52 & 15);
	return n > CTN_ENCODE_NODES ? CTN_ENCODE_NODES : n;
}
CTN_FN int ctn_packed_padded(uint64_t g, int pad) {
	int n = ctn_packed_nodes(g);
	return n > pad ? n : pad;
}
// The operation of node v, padding included.
CTN_FN int ctn_packed_op(uint64_t g, int v, int alphabet) {
	int op = v < ctn_packed_nodes(g) ? (int)(g >> (28 + 3 * v) & 7) : alphabet - 1;
	return op < alphabet ? op : alphabet - 1;
}
// The neighbors of node v of `nodes`, from which it has an edge, and v itself, as bits.
CTN_FN uint32_t ctn_packed_neighbors(uint64_t g, int v, int nodes) {
	return v < nodes ? ((uint32_t)(g & 0xfffffff) >> (v * (v - 1) / 2) & ((1u << v) - 1)) | 1u << v : 0;
}

extern const ctn_kernel ctn_encode_prepare[], ctn_encode[], ctn_encode_back[], ctn_encode_weights[];
