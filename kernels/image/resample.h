#include "../exec/exec.h"

// One axis of a resampling: output i is the sum over t < taps of weight[i*taps + t] * source[first[i] + t].
typedef struct ctn_axis {
	int64_t n, taps;      // pixels written, and read for each of them
	const int32_t *first; // [n]: the first that is read
	const float *weight;  // [n, taps]
} ctn_axis;

typedef struct ctn_resample_args {
	const uint8_t *src;   // [rows, columns, 3] bytes, RGB; rows from 0, columns from `begin`
	int64_t src_stride;   // bytes a row
	int64_t begin, width; // the columns that x reads
	ctn_axis y, x;
	float scale[4], bias[4]; // out = scale[c] * value + bias[c]; the fourth is not used
	float *dst;              // [y.n, x.n, 3]
	float *row;              // scratch of 3*width + CTN_RESAMPLE_PAD floats
} ctn_resample_args;

enum { CTN_RESAMPLE_PAD = 4 }; // pixels are read as four floats

void ctn_resample(int level, ctn_resample_args a);
