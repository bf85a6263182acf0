#include "../exec/exec.h"

typedef struct ctn_peak_args {
	int64_t tasks, rounds; // each task updates its chains `rounds` times; GPU: a block a task
	float *out;            // [tasks]
} ctn_peak_args;

typedef struct ctn_copy_args {
	int64_t n;
	const float *src; // [n]
	float *dst;       // [n]
} ctn_copy_args;

enum { CTN_PEAK_CHAINS = 10 };    // independent chains: enough to hide the latency of a multiply-add on two units
enum { CTN_COPY_TASK = 1 << 18 }; // CPU: floats a task
enum {
	CTN_PEAK_BLOCK = 256,     // GPU: threads a block
	CTN_PEAK_BF16_CHAINS = 8, // GPU: tiles of 16 x 8 that a warp sums up at once
	CTN_COPY_EACH = 16,       // GPU: floats a thread
};
extern const ctn_kernel ctn_peak[], ctn_copy[];
extern const int64_t ctn_peak_lanes[CTN_LEVELS];
