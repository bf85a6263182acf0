#include "../exec/exec.h"

// One axis of a resampling with whole weights, which sum to 1 << CTN_FIXED_WEIGHT: output i is the sum over t < 2*pairs
// of weight[i*2*pairs + t] * source[first[i] + t]. Where there are fewer samples from first[i] on, the last weight is
// 0.
typedef struct ctn_fixed_axis {
	int64_t n, pairs;
	const int32_t *first;
	const int16_t *weight;
} ctn_fixed_axis;

typedef struct ctn_fixed_args {
	const uint8_t *src; // [rows, columns, 3] bytes, RGB, from column `begin` on; `bytes` of them can be read
	int64_t src_stride, bytes;
	int64_t begin, width; // the columns that x reads
	ctn_fixed_axis y, x;
	int64_t kept;    // rows in `ring`: as many as an output row reads
	int32_t zero[4]; // what becomes 0, in units of 1 << (CTN_FIXED_ROW + CTN_FIXED_WEIGHT)
	float scale[4];
	float *dst;     // [y.n, x.n, 3]
	int16_t *ring;  // scratch: kept * (3 * x.n + CTN_FIXED_PAD)
	int32_t *held;  // scratch: kept
	int32_t *zeros; // scratch: 3 * x.n
	float *scales;  // scratch: 3 * x.n
	int16_t *wide;  // scratch: 16 * x.n
	uint8_t *row;   // scratch: 3 * width + CTN_FIXED_PAD
} ctn_fixed_args;

enum {
	CTN_FIXED_WEIGHT = 14, // bits behind the point of a weight
	CTN_FIXED_ROW = 6,     // and of what a row is between the two passes
	CTN_FIXED_PAD = 16,
};

void ctn_fixed(int level, ctn_fixed_args a);
