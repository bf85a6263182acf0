#include "../exec/exec.h"

enum {
	CTN_ELASTIC_SIZE = 7,      // largest kernel
	CTN_ELASTIC_STEPS = 3,     // most matrices: 7 to 1
	CTN_ELASTIC_TAPS = 25,     // most taps that a matrix multiplies
	CTN_ELASTIC_CHANNELS = 32, // a task, and a block of a GPU
	CTN_ELASTIC_BLOCK = 256,   // GPU: threads a block
};

// Step s makes a kernel of k - 2 s taps each way two smaller: its inner taps, n of them, times a matrix.
typedef struct ctn_shrink_args {
	int64_t k, c, ld; // size of the shared kernel, channels, and elements from one of its taps to the next
	int64_t steps;
	const float *weight;                    // [k, k, c], taps ld apart
	const float *matrix[CTN_ELASTIC_STEPS]; // [n, n]: from input taps to output taps
	float *out;                             // [k - 2 steps, k - 2 steps, c]
	// backward
	const float *dout;                // as out
	float *dweight;                   // as weight
	float *dmatrix[CTN_ELASTIC_STEPS]; // as matrix
	float *partial;                    // [blocks of channels, entries]
	int64_t entries;                   // of all dmatrix together: rows of what somebody reads
} ctn_shrink_args;

// Where tap t of a kernel of m x m lies in one that is a tap larger all around.
CTN_FN int64_t ctn_elastic_inner(int64_t t, int64_t m) { return (t / m + 1) * (m + 2) + t % m + 1; }

// Taps each way after `steps` steps.
CTN_FN int64_t ctn_elastic_size(const ctn_shrink_args *g, int64_t steps) { return g->k - 2 * steps; }

// Taps that step s multiplies.
CTN_FN int64_t ctn_elastic_inputs(const ctn_shrink_args *g, int64_t s) {
	int64_t m = ctn_elastic_size(g, s + 1);
	return m * m;
}

// Taps that somebody reads of what step s makes: all of the last one's, the next one's inner ones.
CTN_FN int64_t ctn_elastic_outputs(const ctn_shrink_args *g, int64_t s) {
	return ctn_elastic_inputs(g, s + 1 < g->steps ? s + 1 : s);
}

// The column of step s's matrix that makes output o of them.
CTN_FN int64_t ctn_elastic_column(const ctn_shrink_args *g, int64_t s, int64_t o) {
	return s + 1 < g->steps ? ctn_elastic_inner(o, ctn_elastic_size(g, s + 2)) : o;
}

// The tap of the shared kernel that is input t of the first step, or of the result where there is none.
CTN_FN int64_t ctn_elastic_tap(const ctn_shrink_args *g, int64_t t) {
	return g->steps ? ctn_elastic_inner(t, g->k - 2) : t;
}

extern const ctn_kernel ctn_shrink[], ctn_shrink_backward[], ctn_shrink_reduce[];
