// The kernels of probe.cu for the fake driver.
#include <stdlib.h>
#include <string.h>
#include "../../kernels/sim/fake/sim.h"
#include "probe.h"

static const char *saxpy(const unsigned grid[3], const unsigned block[3], size_t shared, const void *args) {
	probe_saxpy_args a;
	(void)shared;
	memcpy(&a, args, sizeof a);
	for (unsigned i = 0; i < grid[0] * block[0] && (int)i < a.n; i++) a.y[i] += a.a * a.x[i];
	return NULL;
}

static const char *reverse(const unsigned grid[3], const unsigned block[3], size_t shared, const void *args) {
	probe_reverse_args a;
	(void)grid, (void)block;
	memcpy(&a, args, sizeof a);
	if (shared < (size_t)a.n * sizeof(float)) return "probe_reverse: too little shared memory";
	float *values = malloc(shared);
	memcpy(values, a.x, (size_t)a.n * sizeof(float));
	for (int i = 0; i < a.n; i++) a.x[i] = values[a.n - 1 - i];
	free(values);
	return NULL;
}

static const char *nothing(const unsigned grid[3], const unsigned block[3], size_t shared, const void *args) {
	(void)grid, (void)block, (void)shared, (void)args;
	return NULL;
}

static const char *stray(const unsigned grid[3], const unsigned block[3], size_t shared, const void *args) {
	(void)grid, (void)block, (void)shared, (void)args;
	return "probe_stray: a write where no memory is";
}

static const struct {
	const char *entry;
	long size;
	size_t statics; // bytes of static shared memory
	const char *(*run)(const unsigned grid[3], const unsigned block[3], size_t shared, const void *args);
} kernels[] = {
        {"probe_saxpy", sizeof(probe_saxpy_args), 0, saxpy},
        {"probe_reverse", sizeof(probe_reverse_args), 0, reverse},
        {"probe_reverse_static", sizeof(probe_reverse_args), PROBE_STATIC, reverse},
        {"probe_nothing", 0, 0, nothing},
        {"probe_stray", sizeof(probe_stray_args), 0, stray},
};

const char *ctn_sim_launch(const char *entry, const unsigned grid[3], const unsigned block[3], size_t shared,
                           size_t most, const void *args) {
	for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
		if (strcmp(kernels[i].entry, entry)) continue;
		if (shared + kernels[i].statics > most) return "more shared memory than a block may have";
		return kernels[i].run(grid, block, shared, args);
	}
	return "no such kernel";
}

// A map's first bytes are its image: what the test looks at.
const char *ctn_sim_image_map(const ctn_sim_image *image, void *map) {
	if (image->ld % 8) return "pixels that are not a multiple of 16 bytes apart";
	memcpy(map, image, sizeof *image);
	return NULL;
}

long ctn_sim_size(const char *entry) {
	for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
		if (!strcmp(kernels[i].entry, entry)) return kernels[i].size;
	}
	return -1;
}
