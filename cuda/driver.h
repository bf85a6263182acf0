// What package cuda needs of the CUDA driver and gorgonia.org/cu does not have. Every function makes the context
// current on the calling thread first, so that any goroutine may call it, and returns the driver's code.
#pragma once
#include <stddef.h>
#include <cuda.h>

// ctn_driver_start loads libcuda.so.1 and initialises it, once; it is defined in shim/shim.c. why is the loader's text
// where the library could not be loaded, otherwise NULL.
CUresult ctn_driver_start(const char **why);

// ctn_error_text gives the driver's name of a code and its explanation.
void ctn_error_text(CUresult code, const char **name, const char **text);

// ctn_launch is one kernel launch; args is NULL for a kernel without parameters.
typedef struct {
	CUfunction function;
	unsigned grid[3], block, shared;
	void *args;
} ctn_launch;

// ctn_prepare lets a kernel use that many bytes of dynamic shared memory and gives the bytes of its parameters: of one,
// or none. params is -1 where the driver, older than CUDA 12.4, cannot tell.
CUresult ctn_prepare(CUcontext context, CUfunction function, unsigned shared, long *params);

// ctn_record captures n launches on the stream into a graph. On an error at is the launch at fault, or n.
CUresult ctn_record(CUcontext context, CUstream stream, const ctn_launch *launches, int n, CUgraphExec *graph, int *at);

// ctn_graph_free ends a graph's life; work that is under way finishes first.
CUresult ctn_graph_free(CUcontext context, CUgraphExec graph);

// ctn_run enqueues a graph several times, between two events where they are given, and does not wait.
CUresult ctn_run(CUcontext context, CUstream stream, CUgraphExec graph, int times, CUevent start, CUevent stop);

// ctn_loop is ctn_run without a graph. An error of launching belongs to the launch at, or to none where at is n; with
// wait, which waits for every launch, so does an error of running.
CUresult ctn_loop(CUcontext context, CUstream stream, const ctn_launch *launches, int n, int times, int wait,
                  CUevent start, CUevent stop, int *at);

// ctn_image is package cuda's ImageMap; ctn_image_map writes the CUtensorMap of it to the 128 bytes at map.
typedef struct {
	const void *z;
	int n, h, w, c;
	long long ld;
	int lower[2], upper[2], pixels;
} ctn_image;
CUresult ctn_image_map(const ctn_image *image, void *map);

// ctn_profile launches every launch once between events, waits, and gives the milliseconds of each, from the end of the
// one before it. Errors are those of ctn_loop.
CUresult ctn_profile(CUcontext context, CUstream stream, const ctn_launch *launches, int n, float *ms, int *at);

// ctn_peer lets a context reach the memory of another GPU directly, where the hardware can. Without it copies between
// the two go through the host's memory.
CUresult ctn_peer(CUcontext context, CUdevice device, CUcontext other, CUdevice other_device);

// ctn_follow has what is enqueued on the stream from now on wait for all that is enqueued on another GPU's, by an event
// of that one.
CUresult ctn_follow(CUcontext context, CUstream stream, CUcontext other, CUstream others, CUevent gate);

// ctn_copy_from copies between the memories of two contexts in the stream's order, which is one of dst's.
CUresult ctn_copy_from(CUcontext context, CUstream stream, CUdeviceptr dst, CUcontext other, CUdeviceptr src,
                       size_t bytes);

// ctn_staging is a ring of pinned memory through which copies between host and device pass.
enum { CTN_SLOTS = 4, CTN_SLOT_BYTES = 4 << 20 };
typedef struct {
	char *slot[CTN_SLOTS];
	CUevent done[CTN_SLOTS]; // after the last copy that used the slot
	int next;
} ctn_staging;

// ctn_staging_make pins the memory. With blocking, a thread that waits for a copy sleeps.
CUresult ctn_staging_make(CUcontext context, ctn_staging *s, int blocking);
CUresult ctn_staging_free(CUcontext context, ctn_staging *s);

// What is copied on the host is char here: of void cgo wants that nothing in the same piece of Go's memory points to
// another one, though only numbers are copied.

// ctn_pin allocates memory of the host that every GPU copies from by itself; ctn_upload enqueues such a copy.
CUresult ctn_pin(CUcontext context, size_t bytes, void **at);
CUresult ctn_unpin(CUcontext context, void *at);
CUresult ctn_upload(CUcontext context, CUstream stream, CUdeviceptr dst, const char *pinned, size_t bytes);

// ctn_write copies to the device, in the stream's order; src may be reused when it returns.
CUresult ctn_write(CUcontext context, CUstream stream, ctn_staging *s, CUdeviceptr dst, const char *src, size_t bytes);

// ctn_read copies from the device after all that was enqueued before, and waits.
CUresult ctn_read(CUcontext context, CUstream stream, ctn_staging *s, char *dst, CUdeviceptr src, size_t bytes);
