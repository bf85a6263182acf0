// A static libcuda.a that finds the real driver when the program asks for it. A program that is linked with -lcuda does
// not start where there is no libcuda.so.1, and gorgonia.org/cu ends it when cuInit fails; linked with this archive it
// starts everywhere.
//
// Every entry jumps through a slot. A slot says "not initialized" until ctn_driver_start has found the driver's own
// entry.
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <cuda.h>
#include "../driver.h"

#ifndef __x86_64__
#error "the GPU build is for x86-64: the jumps below are written for it"
#endif

static CUresult not_initialized(void) { return CUDA_ERROR_NOT_INITIALIZED; }
static CUresult no_device(void) { return CUDA_ERROR_NO_DEVICE; }
static CUresult not_supported(void) { return CUDA_ERROR_NOT_SUPPORTED; }

// The parameter is expanded on the way, so that the symbol is the version that this cuda.h means, as in cuMemAlloc_v2.
#define ENTRY(entry) DEFINE(entry)
#define DEFINE(entry) \
	__attribute__((visibility("hidden"))) void *ctn_slot_##entry = (void *)not_initialized; \
	__asm__(".text\n" \
	        ".globl " #entry "\n" \
	        ".type " #entry ", @function\n" #entry ":\n" \
	        "\tjmp *ctn_slot_" #entry "(%rip)\n" \
	        ".size " #entry ", . - " #entry "\n");
#include "entries.h"
#undef ENTRY

#define ENTRY(entry) LIST(entry)
#define LIST(entry) {#entry, &ctn_slot_##entry},
static const struct {
	const char *name;
	void **slot;
} entries[] = {
#include "entries.h"
};

// Without a driver's cuInit here, gorgonia.org/cu succeeds when the program starts and a program that needs no GPU
// waits for none.
CUresult cuInit(unsigned flags) { return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS; }

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CUresult started;
static const char *reason;

static void fill(void *library) {
	for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
		void *entry = library ? dlsym(library, entries[i].name) : NULL;
		*entries[i].slot = entry ? entry : library ? (void *)not_supported : (void *)no_device;
	}
}

static void start(void) {
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!library) reason = dlerror();
	fill(library);
	CUresult (*init)(unsigned) = library ? (CUresult(*)(unsigned))dlsym(library, "cuInit") : NULL;
	started = init ? init(0) : CUDA_ERROR_NO_DEVICE;
}

CUresult ctn_driver_start(const char **why) {
	pthread_once(&once, start);
	*why = reason;
	return started;
}
