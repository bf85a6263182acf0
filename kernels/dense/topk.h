#include "dense.h"
#include <string.h>

// How far the search for the least of the k keys has come.
typedef struct ctn_topk_state {
	uint64_t least;  // its digits found so far, the others 0
	int32_t left;    // how many keys that begin with these digits belong to the k
	int32_t shift;   // bits of a key that are not found yet
	int32_t ticket;  // counts the blocks that ended
	int32_t written; // survivors
} ctn_topk_state;

typedef struct ctn_topk_args {
	int64_t n, k;
	const float *in;       // [n]
	float *value;          // [k]
	int32_t *index;        // [k]
	int32_t index_bits;    // of n - 1: a key's lower part
	ctn_topk_state *state; // GPU: [1]
	uint32_t *count;       // GPU: [CTN_TOPK_BINS]
	uint64_t *survivors;   // GPU: [k]
} ctn_topk_args;

enum {
	CTN_TOPK_MAX = 4096, // k at most
	CTN_TOPK_DIGIT = 11, // GPU: bits found by a launch
	CTN_TOPK_BINS = 1 << CTN_TOPK_DIGIT,
	CTN_TOPK_EACH = 8,          // GPU: elements a thread
	CTN_TOPK_SORT_BLOCK = 1024, // GPU: threads of the block that sorts
};

// Element i as a number: no two are equal, and larger ones come first. NaN is the least, the two zeros are one, and of
// equal elements the one with the lower index is larger.
CTN_FN uint64_t ctn_topk_key(const ctn_topk_args *g, int64_t i) {
	float x = g->in[i];
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	if (x == 0) bits = 0;
	bits = x != x ? 0 : bits >> 31 ? ~bits : bits | 0x80000000u;
	return (uint64_t)bits << g->index_bits | (uint64_t)(g->n - 1 - i);
}

CTN_FN int64_t ctn_topk_index(const ctn_topk_args *g, uint64_t key) {
	return g->n - 1 - (int64_t)(key & (((uint64_t)1 << g->index_bits) - 1));
}

extern const ctn_kernel ctn_topk[];
