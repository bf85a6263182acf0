#include "graph.h"

typedef struct ctn_gated_args {
	ctn_dim rows;
	int64_t width;
	const int32_t *label; // [rows]
	const float *table;   // [labels, 2 width]
	const float *scale;   // [labels, 2 width]
	float *product;       // [rows, 2 width]: the messages' product, if there are neighbors; backward: out, the scale's
	                      // gradient
	float *gates;         // [rows, 2 width]: out z and t; backward: out their gradients
	float *dproduct;      // [rows, 2 width]
	const float *aggregated; // [rows, width], or none
	float *out;              // [rows, width]
	const float *grad;       // [rows, width]
	float *daggregated;      // [rows, width], or none
} ctn_gated_args;

extern const ctn_kernel ctn_gated[], ctn_gated_backward[];
