// What the fake driver needs of a simulator: kernels as functions of the host.
#pragma once
#include <stddef.h>

// ctn_sim_launch runs all blocks of an entry; args points to its argument struct. A block has shared bytes of dynamic
// shared memory, and may have most together with its static memory. NULL, or what went wrong.
const char *ctn_sim_launch(const char *entry, const unsigned grid[3], const unsigned block[3], size_t shared,
                           size_t most, const void *args);

// ctn_sim_image_map fills the 128 bytes of a tensor map with what the simulator's kernels read. NULL, or what is wrong.
typedef struct ctn_sim_image {
	const void *z;
	int n, h, w, c;
	long long ld;
	int lower[2], upper[2], pixels;
} ctn_sim_image;
const char *ctn_sim_image_map(const ctn_sim_image *image, void *map);

// ctn_sim_size is the bytes of an entry's argument struct, -1 if there is no such entry.
long ctn_sim_size(const char *entry);
