#include "dense.h"

typedef struct ctn_radial_args {
	ctn_dim rows;
	int64_t width, centers;
	const float *in, *product; // [rows, width], [rows, centers]
	const float *norm;         // [centers]
	const float *weight;       // [centers]
	float *out;                // [rows]
	float scale;
} ctn_radial_args;

extern const ctn_kernel ctn_radial[];
