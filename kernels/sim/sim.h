// The C interface of the simulator. A launch runs to its end; launches run one at a time.
#ifndef CTN_SIM_H
#define CTN_SIM_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

// Runs an entry: NULL, or an error's text, which the calling thread keeps until its next call. args is the entry's
// struct; most are the bytes of shared memory that a block may have, dynamic and static together.
const char *ctn_sim_launch(const char *entry, const unsigned grid[3], const unsigned block[3], size_t shared,
                           size_t most, const void *args);

// The order in which the threads of a block, and the blocks, get their turn. CTN_SIM_RANDOM shuffles the threads of
// each block by the seed.
enum { CTN_SIM_ASCENDING, CTN_SIM_DESCENDING, CTN_SIM_RANDOM };
typedef struct ctn_sim_schedule {
	int order;
	unsigned seed;
	int threads; // of the host, at most 8; 0: one for each processor
} ctn_sim_schedule;

// As ctn_sim_launch, which takes the ascending order on all processors, with as much shared memory as a GPU has.
const char *ctn_sim_launch_as(const ctn_sim_schedule *how, const char *entry, const unsigned grid[3],
                              const unsigned block[3], size_t shared, const void *args);

long ctn_sim_size(const char *entry);     // bytes of the entry's argument struct; -1: no such entry
long ctn_sim_launches(const char *entry); // how many launches of it were run, failed ones too
const char *ctn_sim_entry(int i);         // the name of entry i in alphabetical order; NULL: past the last one

// Memory of exactly so many bytes, full of 0xFF, on a multiple of 256; NULL: none left. What a launch writes beside it
// is reported: by AddressSanitizer where the simulator is built with it, otherwise after the launch.
void *ctn_sim_alloc(size_t bytes);
void ctn_sim_free(void *p);

// What a tensor map describes: an NHWC tensor of bfloat16, pixels ld elements apart. A copy goes through `pixels`
// pixels of the box [lower, w + upper) x [lower, h + upper) of each image; [0] is along a row, [1] down.
typedef struct ctn_sim_image {
	const void *z;
	int n, h, w, c;
	long long ld;
	int lower[2], upper[2], pixels;
} ctn_sim_image;

// Fills a ctn_image_map (exec/hopper.h): NULL, or what a driver refuses.
const char *ctn_sim_image_map(const ctn_sim_image *image, void *map);

// Whether an access to no memory at all fails the launch: elsewhere it ends the process.
int ctn_sim_catches_faults(void);
// Whether AddressSanitizer, which ends the process, takes the place of that report.
int ctn_sim_sanitized(void);

#ifdef __cplusplus
}
#endif
#endif
