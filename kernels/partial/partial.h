// What partial.cu gets: sums that operations have left in parts.
#ifndef CTN_PARTIAL_H
#define CTN_PARTIAL_H
#include "../exec/exec.h"

// out[i] = the sum of in[p][i] over the parts p, or that more than before.
typedef struct ctn_partial {
	const void *in; // [parts, len], float32 or bfloat16
	float *out;     // [taps, rows, cols] of len elements in all, rows row_ld and taps tap_ld elements apart
	int64_t len;
	int32_t parts, half, accumulate;
	int32_t cols, rows; // of a tap
	int32_t row_ld, tap_ld;
	int32_t ways;  // parts of a block that are added side by side, then one after the other
	int32_t first; // the first block that works on it
} ctn_partial;

typedef struct ctn_partial_args {
	const ctn_partial *all; // [count], in the order of `first`
	int32_t count;
} ctn_partial_args;

enum {
	CTN_PARTIAL_BLOCK = 512,
	CTN_PARTIAL_WAYS = 16, // the most
};

#endif
