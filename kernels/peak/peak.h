#include "../exec/exec.h"

typedef struct ctn_peak_args {
	int64_t tasks, rounds; // each task updates CTN_PEAK_CHAINS vectors `rounds` times
	float *out;            // one a task
} ctn_peak_args;

enum { CTN_PEAK_CHAINS = 10 }; // independent chains: enough to hide the latency of a multiply-add on two units
extern const ctn_kernel ctn_peak[];
extern const int64_t ctn_peak_lanes[CTN_LEVELS];
