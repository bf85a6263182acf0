// A libcuda.so.1 for machines without a GPU: the entries of the driver that package cuda calls, over the host's memory.
// Kernels are host functions behind sim.h. Work on a stream is queued and done only when somebody waits for it, the
// worst case of what a GPU may do: a host buffer that is reused too early shows. Calls check what the real driver
// checks: the thread's context, handles, sizes, shared memory.
//
// CTNAS_FAKE_CUDA is a list, with commas, of what goes wrong:
//   nodevice       the driver finds no GPU             devices:N      it finds N
//   version:12040  the driver supports CUDA 12.4       memory:BYTES   a GPU has so much
//   badarch        a fatbin has nothing for this GPU   fail:ENTRY     the kernel stops with an error when it runs
//   refuse:ENTRY   the kernel cannot be launched       noparams       cuFuncGetParamInfo is not supported
//   lost:N         GPU N does not answer               busy:N         GPU N belongs to another process
//   code:N         the error that a kernel stops with  nospin         a wait that keeps the processor busy fails
//   nopeer         no GPU reaches another's memory
//   ahead          a GPU's streams but the first do at once what waits for nothing: a wait too few shows there
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cuda.h>
#include "sim.h"

enum {
	SM = 90,
	SMS = 132,
	SHARED = 48 << 10,
	SHARED_OPTIN = 227 << 10,
	THREADS = 1024,
	MAX_DEVICES = 8,
	MAX_ARGS = 4096
};

typedef enum { COPY, FILL, LAUNCH, RECORD, WAIT, GRAPH } kind;

typedef struct op {
	kind kind;
	void *dst;
	const void *src;
	size_t bytes;
	unsigned char value;
	CUfunction function;
	unsigned grid[3], block[3];
	size_t shared, most;
	CUevent event;
	unsigned long record; // of the event, that a WAIT is for
	CUgraph graph;
	struct op *next;
	_Alignas(64) char args[];
} op;

struct CUctx_st {
	int device, users;
	unsigned flags;
	int reaches[MAX_DEVICES]; // whose memory
};
struct CUmod_st {
	int loaded;
};
struct CUfunc_st {
	char entry[256];
	size_t size;
	int shared, asked; // what dynamic shared memory may be, and whether that was set
	struct CUfunc_st *next;
};
struct CUstream_st {
	op *first, **last;
	CUgraph capture;
	CUcontext context;
	int ahead;
	struct CUstream_st *next;
};
struct CUevent_st {
	int pending;
	unsigned long recorded; // how often, those that are pending too
	unsigned flags;
	struct timespec at;
};
struct CUgraph_st {
	op *first, **last;
	int users;
};
struct CUgraphExec_st {
	CUgraph graph;
};
typedef struct allocation {
	void *at;
	size_t bytes;
	int host, device;
	struct allocation *next;
} allocation;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local CUcontext current;
static struct CUctx_st contexts[MAX_DEVICES];
static CUstream streams;
static CUfunction functions;
static allocation *allocations;
static CUresult dead; // the error that a kernel left; every call returns it from then on
static char dead_text[1024];
static int initialized;

// Finds "name" or "name:value" in CTNAS_FAKE_CUDA; the value, or "" without one, or NULL.
static const char *wrong(const char *name) {
	static _Thread_local char value[256];
	const char *list = getenv("CTNAS_FAKE_CUDA");
	size_t n = strlen(name);
	for (; list && *list; list += strcspn(list, ","), list += *list == ',') {
		if (strncmp(list, name, n) || !strchr(":,", list[n])) continue;
		const char *from = list[n] == ':' ? list + n + 1 : list + n;
		snprintf(value, sizeof value, "%.*s", (int)strcspn(from, ","), from);
		return value;
	}
	return NULL;
}

static int wrong_for(const char *name, const char *entry) {
	const char *value = wrong(name);
	return value && !strcmp(value, entry);
}

static long number(const char *name, long otherwise) {
	const char *value = wrong(name);
	return value ? atol(value) : otherwise;
}

static size_t total_memory(void) { return (size_t)number("memory", 1L << 30); }
static int count(void) { return (int)number("devices", 1); }

// Every call is ENTER or ENTER_CONTEXT, checks with NEED, its work, LEAVE; all under one lock.
#define ENTER \
	CUresult code = enter(0); \
	if (code != CUDA_SUCCESS) goto out
#define ENTER_CONTEXT \
	CUresult code = enter(1); \
	if (code != CUDA_SUCCESS) goto out
#define NEED(condition, error) \
	do { \
		if (condition) break; \
		code = error; \
		goto out; \
	} while (0)
#define LEAVE \
	out: \
	pthread_mutex_unlock(&lock); \
	return code

static CUresult enter(int context) {
	pthread_mutex_lock(&lock);
	if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
	if (dead) return dead;
	return context && !current ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

static void die(CUresult code, const char *format, ...) {
	va_list v;
	va_start(v, format);
	vsnprintf(dead_text, sizeof dead_text, format, v);
	va_end(v);
	dead = code;
}

// Tells whether [p, p+bytes) lies in one allocation of that kind.
static int inside(const void *p, size_t bytes, int host) {
	for (allocation *a = allocations; a; a = a->next) {
		if (a->host == host && (char *)p >= (char *)a->at && (char *)p + bytes <= (char *)a->at + a->bytes) return 1;
	}
	return 0;
}

static size_t used_memory(int device) {
	size_t sum = 0;
	for (allocation *a = allocations; a; a = a->next) sum += a->host || a->device != device ? 0 : a->bytes;
	return sum;
}

// ---- work -----------------------------------------------------------------------

static void release(CUgraph g) {
	if (--g->users) return;
	for (op *o = g->first, *next; o; o = next) {
		next = o->next;
		free(o);
	}
	free(g);
}

static void await(CUevent event, unsigned long record);

static void perform(const op *o) {
	if (dead) return;
	switch (o->kind) {
	case COPY: memcpy(o->dst, o->src, o->bytes); break;
	case FILL: memset(o->dst, o->value, o->bytes); break;
	case LAUNCH: {
		const char *entry = o->function->entry;
		if (wrong_for("fail", entry)) {
			die((CUresult)number("code", CUDA_ERROR_LAUNCH_FAILED), "told to fail in %s", entry);
			return;
		}
		const char *text = ctn_sim_launch(entry, o->grid, o->block, o->shared, o->most, o->args);
		if (text) die(CUDA_ERROR_LAUNCH_FAILED, "%s", text);
		break;
	}
	case RECORD:
		o->event->pending--;
		clock_gettime(CLOCK_MONOTONIC, &o->event->at);
		break;
	case WAIT: await(o->event, o->record); break;
	case GRAPH:
		for (op *each = o->graph->first; each; each = each->next) perform(each);
		break;
	}
}

// Does the next thing that is queued on a stream.
static void advance(CUstream s) {
	op *o = s->first;
	s->first = o->next;
	if (!s->first) s->last = &s->first;
	perform(o);
	if (o->kind == GRAPH) release(o->graph);
	free(o);
}

// Does what is queued on a stream, up to the record of an event if one is given.
static void drain(CUstream s, CUevent until) {
	while (s->first && !(until && !until->pending)) advance(s);
}

static int records(CUstream s, CUevent event) {
	for (op *o = s->first; o; o = o->next) {
		if (o->kind == RECORD && o->event == event) return 1;
	}
	return 0;
}

// Does what other streams have queued before the record of an event.
static void await(CUevent event, unsigned long record) {
	for (CUstream s = streams; s; s = s->next) {
		while (event->recorded - (unsigned long)event->pending < record && records(s, event)) advance(s);
	}
}

static void drain_all(void) {
	for (CUstream s = streams; s; s = s->next) drain(s, NULL);
}

static op *new_op(kind k, size_t args) {
	size_t bytes = (sizeof(op) + args + 63) / 64 * 64;
	op *o = aligned_alloc(64, bytes);
	memset(o, 0, bytes);
	o->kind = k;
	return o;
}

static void enqueue(CUstream s, op *o) {
	op ***last = s->capture ? &s->capture->last : &s->last;
	**last = o;
	*last = &o->next;
	if (s->ahead && !s->capture) drain(s, NULL);
}

// ---- driver, devices, contexts --------------------------------------------------

CUresult cuInit(unsigned flags) {
	if (flags) return CUDA_ERROR_INVALID_VALUE;
	if (wrong("nodevice")) return CUDA_ERROR_NO_DEVICE;
	initialized = 1;
	return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version) {
	*version = (int)number("version", CUDA_VERSION);
	return CUDA_SUCCESS;
}

static const struct {
	CUresult code;
	const char *name, *text;
} codes[] = {
        {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
        {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
        {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
        {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
        {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
        {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
        {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
        {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
        {CUDA_ERROR_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU",
         "no kernel image is available for execution on the device"},
        {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
        {CUDA_ERROR_ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE",
         "the operation cannot be performed in the present state"},
        {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
        {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
        {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
         "too many resources requested for launch"},
        {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
        {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
        {CUDA_ERROR_NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
        {CUDA_ERROR_DEVICE_UNAVAILABLE, "CUDA_ERROR_DEVICE_UNAVAILABLE",
         "CUDA-capable device(s) is/are busy or unavailable"},
        {CUDA_ERROR_CONTAINED, "CUDA_ERROR_CONTAINED",
         "Invalid access of peer GPU memory over nvlink or a hardware error"},
        {CUDA_ERROR_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
        {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
         "operation not permitted when stream is capturing"},
        {CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
         "capture was not initiated in this stream"},
};

static CUresult describe(CUresult error, const char **name, const char **text) {
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		if (codes[i].code != error) continue;
		if (name) *name = codes[i].name;
		if (text) *text = error && error == dead ? dead_text : codes[i].text;
		return CUDA_SUCCESS;
	}
	return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorName(CUresult error, const char **name) { return describe(error, name, NULL); }
CUresult cuGetErrorString(CUresult error, const char **text) { return describe(error, NULL, text); }

CUresult cuDeviceGetCount(int *n) {
	ENTER;
	*n = count();
	LEAVE;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
	ENTER;
	NEED(ordinal >= 0 && ordinal < count() && ordinal < MAX_DEVICES, CUDA_ERROR_INVALID_DEVICE);
	*device = ordinal;
	LEAVE;
}

CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) {
	ENTER;
	NEED(device >= 0 && device < count(), CUDA_ERROR_INVALID_DEVICE);
	NEED(number("lost", -1) != device, CUDA_ERROR_UNKNOWN);
	snprintf(name, (size_t)bytes, "ctnas fake GPU");
	LEAVE;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
	ENTER;
	NEED(device >= 0 && device < count(), CUDA_ERROR_INVALID_DEVICE);
	*bytes = total_memory();
	LEAVE;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
	ENTER;
	NEED(device >= 0 && device < count(), CUDA_ERROR_INVALID_DEVICE);
	switch (attribute) {
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = SM / 10; break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = SM % 10; break;
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = SMS; break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = SHARED_OPTIN; break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: *value = SHARED_OPTIN + (1 << 10); break;
	case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: *value = 65536; break;
	case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: *value = 2048; break;
	case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: *value = 1000000; break;
	default: *value = 0;
	}
	LEAVE;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
	ENTER;
	NEED(device >= 0 && device < count(), CUDA_ERROR_INVALID_DEVICE);
	NEED(number("busy", -1) != device, CUDA_ERROR_DEVICE_UNAVAILABLE);
	contexts[device].device = device;
	contexts[device].users++;
	*context = &contexts[device];
	LEAVE;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
	ENTER;
	NEED(device >= 0 && device < MAX_DEVICES && contexts[device].users > 0, CUDA_ERROR_INVALID_CONTEXT);
	if (!--contexts[device].users) memset(contexts[device].reaches, 0, sizeof contexts[device].reaches);
	LEAVE;
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned flags) {
	ENTER;
	NEED(device >= 0 && device < count(), CUDA_ERROR_INVALID_DEVICE);
	contexts[device].flags = flags;
	LEAVE;
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer) {
	ENTER;
	NEED(device >= 0 && device < count() && peer >= 0 && peer < count(), CUDA_ERROR_INVALID_DEVICE);
	*can = device != peer && !wrong("nopeer");
	LEAVE;
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
	ENTER_CONTEXT;
	NEED(peer && peer->users > 0 && peer != current && !wrong("nopeer"), CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
	NEED(!flags, CUDA_ERROR_INVALID_VALUE);
	NEED(!current->reaches[peer->device], CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
	current->reaches[peer->device] = 1;
	LEAVE;
}

CUresult cuCtxSetCurrent(CUcontext context) {
	ENTER;
	NEED(!context || context->users > 0, CUDA_ERROR_INVALID_CONTEXT);
	current = context;
	LEAVE;
}

// ---- streams, events ------------------------------------------------------------

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
	ENTER_CONTEXT;
	NEED(flags <= CU_STREAM_NON_BLOCKING, CUDA_ERROR_INVALID_VALUE);
	CUstream s = calloc(1, sizeof *s);
	s->last = &s->first;
	s->context = current;
	for (CUstream other = streams; other && wrong("ahead"); other = other->next) s->ahead |= other->context == current;
	s->next = streams;
	*stream = streams = s;
	LEAVE;
}

static int known_stream(CUstream stream) {
	for (CUstream s = streams; s; s = s->next) {
		if (s == stream) return s->context == current;
	}
	return 0;
}

CUresult cuStreamDestroy(CUstream stream) {
	ENTER_CONTEXT;
	NEED(known_stream(stream), CUDA_ERROR_INVALID_HANDLE);
	drain(stream, NULL);
	CUstream *at = &streams;
	while (*at != stream) at = &(*at)->next;
	*at = stream->next;
	free(stream);
	LEAVE;
}

CUresult cuStreamSynchronize(CUstream stream) {
	ENTER_CONTEXT;
	NEED(known_stream(stream), CUDA_ERROR_INVALID_HANDLE);
	NEED(!stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	NEED(!wrong("nospin") || current->flags & CU_CTX_SCHED_BLOCKING_SYNC, CUDA_ERROR_NOT_PERMITTED);
	drain(stream, NULL);
	code = dead;
	LEAVE;
}

CUresult cuEventCreate(CUevent *event, unsigned flags) {
	ENTER_CONTEXT;
	*event = calloc(1, sizeof **event);
	(*event)->flags = flags;
	LEAVE;
}

CUresult cuEventDestroy(CUevent event) {
	ENTER_CONTEXT;
	NEED(event, CUDA_ERROR_INVALID_HANDLE);
	if (event->pending) drain_all();
	free(event);
	LEAVE;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
	ENTER_CONTEXT;
	NEED(event && known_stream(stream), CUDA_ERROR_INVALID_HANDLE);
	op *o = new_op(RECORD, 0);
	o->event = event;
	event->pending++;
	event->recorded++;
	enqueue(stream, o);
	LEAVE;
}

// A wait for an event that was never recorded is over at once, as the driver has it.
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
	ENTER_CONTEXT;
	NEED(event && known_stream(stream), CUDA_ERROR_INVALID_HANDLE);
	NEED(!flags, CUDA_ERROR_INVALID_VALUE);
	op *o = new_op(WAIT, 0);
	o->event = event;
	o->record = event->recorded;
	enqueue(stream, o);
	LEAVE;
}

CUresult cuEventSynchronize(CUevent event) {
	ENTER_CONTEXT;
	NEED(event, CUDA_ERROR_INVALID_HANDLE);
	NEED(!wrong("nospin") || event->flags & CU_EVENT_BLOCKING_SYNC, CUDA_ERROR_NOT_PERMITTED);
	for (CUstream s = streams; s && event->pending; s = s->next) {
		if (records(s, event)) drain(s, event);
	}
	code = dead;
	LEAVE;
}

CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent stop) {
	ENTER_CONTEXT;
	NEED(start && stop, CUDA_ERROR_INVALID_HANDLE);
	NEED(!start->pending && !stop->pending, CUDA_ERROR_NOT_READY);
	*ms = (float)((double)(stop->at.tv_sec - start->at.tv_sec) * 1e3 +
	              (double)(stop->at.tv_nsec - start->at.tv_nsec) / 1e6);
	LEAVE;
}

// ---- memory ---------------------------------------------------------------------

static void *allocate(size_t bytes, int host) {
	allocation *a = calloc(1, sizeof *a);
	a->at = aligned_alloc(256, (bytes + 255) / 256 * 256);
	a->bytes = bytes;
	a->host = host;
	a->device = current->device;
	a->next = allocations;
	allocations = a;
	return a->at;
}

static int deallocate(void *p, int host) {
	for (allocation **a = &allocations; *a; a = &(*a)->next) {
		allocation *found = *a;
		if (found->at != p || found->host != host) continue;
		*a = found->next;
		free(found->at);
		free(found);
		return 1;
	}
	return 0;
}

CUresult cuMemAlloc(CUdeviceptr *p, size_t bytes) {
	ENTER_CONTEXT;
	NEED(bytes > 0, CUDA_ERROR_INVALID_VALUE);
	NEED(bytes <= total_memory() && used_memory(current->device) <= total_memory() - bytes, CUDA_ERROR_OUT_OF_MEMORY);
	*p = (CUdeviceptr)(uintptr_t)allocate(bytes, 0);
	LEAVE;
}

CUresult cuMemFree(CUdeviceptr p) {
	ENTER_CONTEXT;
	drain_all();
	NEED(deallocate((void *)(uintptr_t)p, 0), CUDA_ERROR_INVALID_VALUE);
	LEAVE;
}

CUresult cuMemGetInfo(size_t *free_bytes, size_t *total) {
	ENTER_CONTEXT;
	*total = total_memory();
	*free_bytes = *total - used_memory(current->device);
	LEAVE;
}

CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned flags) {
	(void)flags;
	ENTER_CONTEXT;
	*p = allocate(bytes, 1);
	LEAVE;
}

CUresult cuMemFreeHost(void *p) {
	ENTER_CONTEXT;
	NEED(deallocate(p, 1), CUDA_ERROR_INVALID_VALUE);
	LEAVE;
}

// Pinned memory is read when the copy runs.
static CUresult copy(void *dst, int dst_host, const void *src, int src_host, size_t bytes, CUstream stream) {
	ENTER_CONTEXT;
	NEED(known_stream(stream), CUDA_ERROR_INVALID_HANDLE);
	NEED(inside(dst, bytes, dst_host) && inside(src, bytes, src_host), CUDA_ERROR_INVALID_VALUE);
	op *o = new_op(COPY, 0);
	o->dst = dst;
	o->src = src;
	o->bytes = bytes;
	enqueue(stream, o);
	LEAVE;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr dst, const void *src, size_t bytes, CUstream stream) {
	return copy((void *)(uintptr_t)dst, 0, src, 1, bytes, stream);
}

CUresult cuMemcpyDtoHAsync(void *dst, CUdeviceptr src, size_t bytes, CUstream stream) {
	return copy(dst, 1, (const void *)(uintptr_t)src, 0, bytes, stream);
}

// Tells whether [p, p+bytes) lies in one allocation of a context.
static int belongs(const void *p, size_t bytes, CUcontext context) {
	for (allocation *a = allocations; a; a = a->next) {
		if (!a->host && a->device == context->device && (char *)p >= (char *)a->at &&
		    (char *)p + bytes <= (char *)a->at + a->bytes)
			return 1;
	}
	return 0;
}

CUresult cuMemcpyPeerAsync(CUdeviceptr dst, CUcontext to, CUdeviceptr src, CUcontext from, size_t bytes,
                           CUstream stream) {
	void *at = (void *)(uintptr_t)dst;
	const void *of = (const void *)(uintptr_t)src;
	ENTER_CONTEXT;
	NEED(known_stream(stream), CUDA_ERROR_INVALID_HANDLE);
	NEED(to && from && to->users > 0 && from->users > 0, CUDA_ERROR_INVALID_CONTEXT);
	NEED(belongs(at, bytes, to) && belongs(of, bytes, from), CUDA_ERROR_INVALID_VALUE);
	op *o = new_op(COPY, 0);
	o->dst = at;
	o->src = of;
	o->bytes = bytes;
	enqueue(stream, o);
	LEAVE;
}

CUresult cuMemsetD8Async(CUdeviceptr dst, unsigned char value, size_t bytes, CUstream stream) {
	ENTER_CONTEXT;
	NEED(known_stream(stream), CUDA_ERROR_INVALID_HANDLE);
	NEED(inside((void *)(uintptr_t)dst, bytes, 0), CUDA_ERROR_INVALID_VALUE);
	op *o = new_op(FILL, 0);
	o->dst = (void *)(uintptr_t)dst;
	o->value = value;
	o->bytes = bytes;
	enqueue(stream, o);
	LEAVE;
}

// ---- kernels --------------------------------------------------------------------

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
	static const unsigned char magic[4] = {0x50, 0xed, 0x55, 0xba}; // a fatbin's
	ENTER_CONTEXT;
	NEED(!memcmp(image, magic, sizeof magic), CUDA_ERROR_INVALID_IMAGE);
	NEED(!wrong("badarch"), CUDA_ERROR_NO_BINARY_FOR_GPU);
	*module = calloc(1, sizeof **module);
	LEAVE;
}

CUresult cuModuleUnload(CUmodule module) {
	ENTER_CONTEXT;
	NEED(module, CUDA_ERROR_INVALID_HANDLE);
	free(module);
	LEAVE;
}

// Functions live as long as the process: which image they came from does not matter here.
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *entry) {
	ENTER_CONTEXT;
	NEED(module, CUDA_ERROR_INVALID_HANDLE);
	long size = ctn_sim_size(entry);
	NEED(size >= 0 && strlen(entry) < sizeof functions->entry, CUDA_ERROR_NOT_FOUND);
	CUfunction f = calloc(1, sizeof *f);
	strcpy(f->entry, entry);
	f->size = (size_t)size;
	f->shared = SHARED;
	f->next = functions;
	*function = functions = f;
	LEAVE;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
	ENTER_CONTEXT;
	NEED(function, CUDA_ERROR_INVALID_HANDLE);
	switch (attribute) {
	case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = THREADS; break;
	case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 32; break;
	default: *value = 0;
	}
	LEAVE;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
	ENTER_CONTEXT;
	NEED(function, CUDA_ERROR_INVALID_HANDLE);
	NEED(attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES && value >= 0 && value <= SHARED_OPTIN,
	     CUDA_ERROR_INVALID_VALUE);
	function->shared = value;
	function->asked = 1;
	LEAVE;
}

CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t *offset, size_t *size) {
	ENTER_CONTEXT;
	NEED(function, CUDA_ERROR_INVALID_HANDLE);
	NEED(!wrong("noparams"), CUDA_ERROR_NOT_SUPPORTED);
	NEED(index == 0 && function->size > 0, CUDA_ERROR_INVALID_VALUE);
	*offset = 0;
	*size = function->size;
	LEAVE;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int block, size_t shared) {
	ENTER_CONTEXT;
	NEED(function && block > 0, CUDA_ERROR_INVALID_VALUE);
	int by_shared = shared ? (int)(SHARED_OPTIN / shared) : 32;
	*blocks = 2048 / block < by_shared ? 2048 / block : by_shared;
	LEAVE;
}

CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream stream, void **params, void **extra) {
	ENTER_CONTEXT;
	NEED(f && known_stream(stream), CUDA_ERROR_INVALID_HANDLE);
	NEED(gx && gy && gz && bx && by && bz && bx * by * bz <= THREADS && shared <= (unsigned)f->shared && !extra,
	     CUDA_ERROR_INVALID_VALUE);
	NEED(f->size <= MAX_ARGS && (!f->size || params), CUDA_ERROR_INVALID_VALUE);
	NEED(!wrong_for("refuse", f->entry), CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
	op *o = new_op(LAUNCH, f->size);
	o->function = f;
	memcpy(o->grid, (unsigned[]){gx, gy, gz}, sizeof o->grid);
	memcpy(o->block, (unsigned[]){bx, by, bz}, sizeof o->block);
	o->shared = shared;
	o->most = f->asked ? SHARED_OPTIN : SHARED;
	if (f->size) memcpy(o->args, params[0], f->size);
	enqueue(stream, o);
	LEAVE;
}

CUresult cuTensorMapEncodeIm2col(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *z,
                                 const cuuint64_t *size, const cuuint64_t *stride, const int *lower, const int *upper,
                                 cuuint32_t channels, cuuint32_t pixels, const cuuint32_t *step,
                                 CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                 CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
	(void)promotion;
	ENTER;
	NEED((uintptr_t)map % 64 == 0 && rank == 4 && inside(z, 1, 0), CUDA_ERROR_INVALID_VALUE);
	// What the project uses: NHWC of bfloat16, whole pixels, 64 channels in 128 swizzled bytes, zeros outside.
	NEED(type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 && channels == 64 && interleave == CU_TENSOR_MAP_INTERLEAVE_NONE &&
	             swizzle == CU_TENSOR_MAP_SWIZZLE_128B && fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
	     CUDA_ERROR_NOT_SUPPORTED);
	for (int i = 0; i < 4; i++) NEED(step[i] == 1 && size[i] > 0 && size[i] <= 1ull << 32, CUDA_ERROR_INVALID_VALUE);
	for (int i = 0; i < 3; i++) NEED(stride[i] % 16 == 0 && stride[i] < 1ull << 40, CUDA_ERROR_INVALID_VALUE);
	NEED(stride[1] == stride[0] * size[1] && stride[2] == stride[1] * size[2], CUDA_ERROR_NOT_SUPPORTED);
	ctn_sim_image image = {z,
	                       (int)size[3],
	                       (int)size[2],
	                       (int)size[1],
	                       (int)size[0],
	                       (long long)(stride[0] / 2),
	                       {lower[0], lower[1]},
	                       {upper[0], upper[1]},
	                       (int)pixels};
	NEED(!ctn_sim_image_map(&image, map), CUDA_ERROR_INVALID_VALUE);
	LEAVE;
}

// ---- graphs ---------------------------------------------------------------------

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
	(void)mode;
	ENTER_CONTEXT;
	NEED(known_stream(stream), CUDA_ERROR_INVALID_HANDLE);
	NEED(!stream->capture, CUDA_ERROR_ILLEGAL_STATE);
	CUgraph g = calloc(1, sizeof *g);
	g->last = &g->first;
	g->users = 1;
	stream->capture = g;
	LEAVE;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
	ENTER_CONTEXT;
	NEED(known_stream(stream), CUDA_ERROR_INVALID_HANDLE);
	NEED(stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
	*graph = stream->capture;
	stream->capture = NULL;
	LEAVE;
}

CUresult cuGraphInstantiate(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
	ENTER_CONTEXT;
	NEED(graph && !flags, CUDA_ERROR_INVALID_VALUE);
	*exec = calloc(1, sizeof **exec);
	(*exec)->graph = graph;
	graph->users++;
	LEAVE;
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream stream) {
	ENTER_CONTEXT;
	NEED(exec && known_stream(stream), CUDA_ERROR_INVALID_HANDLE);
	LEAVE;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
	ENTER_CONTEXT;
	NEED(exec && known_stream(stream), CUDA_ERROR_INVALID_HANDLE);
	op *o = new_op(GRAPH, 0);
	o->graph = exec->graph;
	o->graph->users++;
	enqueue(stream, o);
	LEAVE;
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
	ENTER_CONTEXT;
	NEED(exec, CUDA_ERROR_INVALID_HANDLE);
	release(exec->graph);
	free(exec);
	LEAVE;
}

CUresult cuGraphDestroy(CUgraph graph) {
	ENTER_CONTEXT;
	NEED(graph, CUDA_ERROR_INVALID_HANDLE);
	release(graph);
	LEAVE;
}
