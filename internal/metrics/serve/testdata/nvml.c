// A management library of two GPUs for tests: the first tells everything and has a fault, the second tells of its
// memory alone. Compiled with -DOLD it lacks what an old driver's lacks.
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, TIMEOUT = 10 };

struct device { int number; };
static struct device gpus[2] = {{0}, {1}};

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code ? "an error" : "success"; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, struct device **d) { *d = &gpus[i]; return SUCCESS; }

int nvmlDeviceGetUtilizationRates(struct device *d, unsigned use[2]) {
	use[0] = 73;
	use[1] = 12;
	return d->number ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetMemoryInfo(struct device *d, unsigned long long memory[3]) { // total, free, used
	memory[0] = 1ull << 37;
	memory[2] = (d->number + 1) * 1000000007ull;
	memory[1] = memory[0] - memory[2];
	return SUCCESS;
}

int nvmlDeviceGetPowerUsage(struct device *d, unsigned *milliwatts) {
	*milliwatts = 312500;
	return d->number ? NOT_SUPPORTED : SUCCESS;
}

#ifndef OLD
int nvmlDeviceGetTotalEccErrors(struct device *d, int type, int counter, unsigned long long *n) {
	*n = type == 1 && counter == 0 ? 5 : 99; // uncorrected, since the driver was loaded
	return d->number ? NOT_SUPPORTED : SUCCESS;
}

struct event {
	struct device *device;
	unsigned long long type, data;
	unsigned gpu, compute;
};

static int told;
int nvmlEventSetCreate(void **set) { *set = &told; return SUCCESS; }
int nvmlEventSetFree(void *set) { return SUCCESS; }
int nvmlDeviceRegisterEvents(struct device *d, unsigned long long types, void *set) {
	return d->number || types != 8 ? NOT_SUPPORTED : SUCCESS;
}
int nvmlEventSetWait_v2(void *set, struct event *e, unsigned milliseconds) {
	if (told++ == 1) {
		memset(e, 0, sizeof *e);
		e->device = &gpus[0];
		e->type = 8;
		e->data = 79; // fallen off the bus
		return SUCCESS;
	}
	usleep(1000);
	return TIMEOUT;
}
#endif
