//go:build cuda

#include <stdlib.h>
#include <string.h>
#include "driver.h"

// Leaves the function with the driver's code where a call fails.
#define TRY(call) \
	do { \
		CUresult code_ = (call); \
		if (code_ != CUDA_SUCCESS) return code_; \
	} while (0)

void ctn_error_text(CUresult code, const char **name, const char **text) {
	*name = *text = NULL; // without a driver the calls leave them as they are
	cuGetErrorName(code, name);
	cuGetErrorString(code, text);
}

CUresult ctn_prepare(CUcontext context, CUfunction function, unsigned shared, long *params) {
	TRY(cuCtxSetCurrent(context));
	// Without asking, a kernel gets 48 KiB of static and dynamic shared memory together. Asking for less costs nothing.
	if (shared) TRY(cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)shared));
	size_t offset = 0, bytes = 0;
	CUresult code = cuFuncGetParamInfo(function, 0, &offset, &bytes);
	*params = (long)bytes;
	if (code == CUDA_ERROR_NOT_SUPPORTED) *params = -1;
	if (code == CUDA_ERROR_INVALID_VALUE) *params = 0;
	return code == CUDA_ERROR_NOT_SUPPORTED || code == CUDA_ERROR_INVALID_VALUE ? CUDA_SUCCESS : code;
}

static CUresult launch(const ctn_launch *l, CUstream stream) {
	void *params[] = {l->args};
	return cuLaunchKernel(l->function, l->grid[0], l->grid[1], l->grid[2], l->block, 1, 1, l->shared, stream,
	                      l->args ? params : NULL, NULL);
}

CUresult ctn_record(CUcontext context, CUstream stream, const ctn_launch *launches, int n, CUgraphExec *graph,
                    int *at) {
	TRY(cuCtxSetCurrent(context));
	TRY(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	CUresult code = CUDA_SUCCESS;
	for (*at = 0; *at < n; ++*at) {
		code = launch(&launches[*at], stream);
		if (code != CUDA_SUCCESS) break;
	}
	CUgraph captured = NULL;
	CUresult end = cuStreamEndCapture(stream, &captured); // also after an error, or the stream would go on capturing
	if (code == CUDA_SUCCESS) code = end;
	if (code == CUDA_SUCCESS) code = cuGraphInstantiate(graph, captured, 0);
	if (captured) cuGraphDestroy(captured);
	if (code != CUDA_SUCCESS) return code;
	return cuGraphUpload(*graph, stream);
}

CUresult ctn_graph_free(CUcontext context, CUgraphExec graph) {
	TRY(cuCtxSetCurrent(context));
	return cuGraphExecDestroy(graph);
}

CUresult ctn_run(CUcontext context, CUstream stream, CUgraphExec graph, int times, CUevent start, CUevent stop) {
	TRY(cuCtxSetCurrent(context));
	if (start) TRY(cuEventRecord(start, stream));
	for (int i = 0; i < times; i++) TRY(cuGraphLaunch(graph, stream));
	return stop ? cuEventRecord(stop, stream) : CUDA_SUCCESS;
}

CUresult ctn_loop(CUcontext context, CUstream stream, const ctn_launch *launches, int n, int times, int wait,
                  CUevent start, CUevent stop, int *at) {
	*at = n;
	TRY(cuCtxSetCurrent(context));
	if (wait) TRY(cuStreamSynchronize(stream)); // an error of something earlier is not the first launch's
	if (start) TRY(cuEventRecord(start, stream));
	for (int i = 0; i < times; i++) {
		for (*at = 0; *at < n; ++*at) {
			TRY(launch(&launches[*at], stream));
			if (wait) TRY(cuStreamSynchronize(stream));
		}
	}
	return stop ? cuEventRecord(stop, stream) : CUDA_SUCCESS;
}

CUresult ctn_image_map(const ctn_image *image, void *map) {
	// The driver wants its map on 64 bytes, and what Go passes need not be.
	CUtensorMap made;
	const size_t pixel = (size_t)image->ld * 2;
	const cuuint64_t sizes[4] = {(cuuint64_t)image->c, (cuuint64_t)image->w, (cuuint64_t)image->h,
	                             (cuuint64_t)image->n};
	const cuuint64_t apart[3] = {pixel, pixel * (size_t)image->w, pixel * (size_t)image->w * (size_t)image->h};
	const cuuint32_t one[4] = {1, 1, 1, 1};
	TRY(cuTensorMapEncodeIm2col(&made, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, (void *)image->z, sizes, apart,
	                            image->lower, image->upper, 64, (cuuint32_t)image->pixels, one,
	                            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
	                            CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
	memcpy(map, &made, sizeof made);
	return CUDA_SUCCESS;
}

static CUresult between(CUstream stream, const ctn_launch *launches, int n, CUevent *events, float *ms, int *at) {
	for (int i = 0; i <= n; i++) TRY(cuEventCreate(&events[i], CU_EVENT_DEFAULT));
	TRY(cuEventRecord(events[0], stream));
	for (*at = 0; *at < n; ++*at) {
		TRY(launch(&launches[*at], stream));
		TRY(cuEventRecord(events[*at + 1], stream));
	}
	TRY(cuEventSynchronize(events[n]));
	for (int i = 0; i < n; i++) TRY(cuEventElapsedTime(&ms[i], events[i], events[i + 1]));
	return CUDA_SUCCESS;
}

CUresult ctn_profile(CUcontext context, CUstream stream, const ctn_launch *launches, int n, float *ms, int *at) {
	*at = n;
	TRY(cuCtxSetCurrent(context));
	CUevent *events = calloc((size_t)n + 1, sizeof *events);
	if (!events) return CUDA_ERROR_OUT_OF_MEMORY;
	CUresult code = between(stream, launches, n, events, ms, at);
	for (int i = 0; i <= n; i++) {
		CUresult end = events[i] ? cuEventDestroy(events[i]) : CUDA_SUCCESS;
		if (code == CUDA_SUCCESS) code = end;
	}
	free(events);
	return code;
}

CUresult ctn_peer(CUcontext context, CUdevice device, CUcontext other, CUdevice other_device) {
	if (context == other) return CUDA_SUCCESS;
	int can = 0;
	TRY(cuDeviceCanAccessPeer(&can, device, other_device));
	if (!can) return CUDA_SUCCESS;
	TRY(cuCtxSetCurrent(context));
	CUresult code = cuCtxEnablePeerAccess(other, 0);
	// Somebody has done it before, or this GPU reaches as many others as it can.
	return code == CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED || code == CUDA_ERROR_TOO_MANY_PEERS ? CUDA_SUCCESS : code;
}

CUresult ctn_follow(CUcontext context, CUstream stream, CUcontext other, CUstream others, CUevent gate) {
	TRY(cuCtxSetCurrent(other));
	TRY(cuEventRecord(gate, others));
	TRY(cuCtxSetCurrent(context));
	return cuStreamWaitEvent(stream, gate, 0);
}

CUresult ctn_copy_from(CUcontext context, CUstream stream, CUdeviceptr dst, CUcontext other, CUdeviceptr src,
                       size_t bytes) {
	TRY(cuCtxSetCurrent(context));
	return cuMemcpyPeerAsync(dst, context, src, other, bytes, stream);
}

CUresult ctn_staging_make(CUcontext context, ctn_staging *s, int blocking) {
	TRY(cuCtxSetCurrent(context));
	unsigned flags = CU_EVENT_DISABLE_TIMING | (blocking ? CU_EVENT_BLOCKING_SYNC : 0);
	for (int i = 0; i < CTN_SLOTS; i++) {
		TRY(cuMemHostAlloc((void **)&s->slot[i], CTN_SLOT_BYTES, 0));
		TRY(cuEventCreate(&s->done[i], flags));
		// A new event counts as done.
	}
	return CUDA_SUCCESS;
}

CUresult ctn_staging_free(CUcontext context, ctn_staging *s) {
	CUresult code = cuCtxSetCurrent(context);
	for (int i = 0; i < CTN_SLOTS; i++) {
		CUresult a = s->done[i] ? cuEventDestroy(s->done[i]) : CUDA_SUCCESS;
		CUresult b = s->slot[i] ? cuMemFreeHost(s->slot[i]) : CUDA_SUCCESS;
		if (code == CUDA_SUCCESS) code = a != CUDA_SUCCESS ? a : b;
	}
	return code;
}

CUresult ctn_pin(CUcontext context, size_t bytes, void **at) {
	TRY(cuCtxSetCurrent(context));
	return cuMemHostAlloc(at, bytes, CU_MEMHOSTALLOC_PORTABLE);
}

CUresult ctn_unpin(CUcontext context, void *at) {
	TRY(cuCtxSetCurrent(context));
	return cuMemFreeHost(at);
}

CUresult ctn_upload(CUcontext context, CUstream stream, CUdeviceptr dst, const char *pinned, size_t bytes) {
	TRY(cuCtxSetCurrent(context));
	return cuMemcpyHtoDAsync(dst, pinned, bytes, stream);
}

static size_t part(size_t bytes, size_t from) { return bytes - from < CTN_SLOT_BYTES ? bytes - from : CTN_SLOT_BYTES; }

CUresult ctn_write(CUcontext context, CUstream stream, ctn_staging *s, CUdeviceptr dst, const char *src, size_t bytes) {
	TRY(cuCtxSetCurrent(context));
	for (size_t from = 0; from < bytes; from += CTN_SLOT_BYTES) {
		int i = s->next;
		s->next = (i + 1) % CTN_SLOTS;
		TRY(cuEventSynchronize(s->done[i]));
		memcpy(s->slot[i], src + from, part(bytes, from));
		TRY(cuMemcpyHtoDAsync(dst + from, s->slot[i], part(bytes, from), stream));
		TRY(cuEventRecord(s->done[i], stream));
	}
	return CUDA_SUCCESS;
}

// Up to CTN_SLOTS copies are under way while the host copies out the oldest. A slot that a write still uses is no
// danger: the stream runs that copy first.
CUresult ctn_read(CUcontext context, CUstream stream, ctn_staging *s, char *dst, CUdeviceptr src, size_t bytes) {
	TRY(cuCtxSetCurrent(context));
	size_t parts = (bytes + CTN_SLOT_BYTES - 1) / CTN_SLOT_BYTES;
	for (size_t p = 0; p < parts + CTN_SLOTS; p++) {
		int i = (int)(p % CTN_SLOTS);
		if (p >= CTN_SLOTS && p - CTN_SLOTS < parts) {
			size_t from = (p - CTN_SLOTS) * CTN_SLOT_BYTES;
			TRY(cuEventSynchronize(s->done[i]));
			memcpy(dst + from, s->slot[i], part(bytes, from));
		}
		if (p < parts) {
			size_t from = p * CTN_SLOT_BYTES;
			TRY(cuMemcpyDtoHAsync(s->slot[i], src + from, part(bytes, from), stream));
			TRY(cuEventRecord(s->done[i], stream));
		}
	}
	return CUDA_SUCCESS;
}
