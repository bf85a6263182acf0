// The cuda.h that gorgonia.org/cu v0.9.6 is compiled with: NVIDIA's, with the five functions of CUDA 12 that CUDA 13
// gave other parameters. It stands before the toolkit's folder on the include path.
#pragma once
#include_next <cuda.h>

#if CUDA_VERSION >= 13000

static inline CUmemLocation ctn_location(CUdevice device) {
	CUmemLocation at = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device};
	if (device < 0) at = (CUmemLocation){.type = CU_MEM_LOCATION_TYPE_HOST};
	return at;
}

static inline CUresult ctn_cuCtxCreate(CUcontext *context, unsigned flags, CUdevice device) {
	return cuCtxCreate_v4(context, NULL, flags, device);
}

static inline CUresult ctn_cuMemAdvise(CUdeviceptr p, size_t bytes, CUmem_advise advice, CUdevice device) {
	return cuMemAdvise_v2(p, bytes, advice, ctn_location(device));
}

static inline CUresult ctn_cuMemPrefetchAsync(CUdeviceptr p, size_t bytes, CUdevice device, CUstream stream) {
	return cuMemPrefetchAsync_v2(p, bytes, ctn_location(device), 0, stream);
}

static inline CUresult ctn_cuGraphAddDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
                                                  size_t n) {
	return cuGraphAddDependencies_v2(graph, from, to, NULL, n);
}

static inline CUresult ctn_cuGraphGetEdges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, size_t *n) {
	return cuGraphGetEdges_v2(graph, from, to, NULL, n);
}

#undef cuCtxCreate
#undef cuMemAdvise
#undef cuMemPrefetchAsync
#undef cuGraphAddDependencies
#undef cuGraphGetEdges
#define cuCtxCreate ctn_cuCtxCreate
#define cuMemAdvise ctn_cuMemAdvise
#define cuMemPrefetchAsync ctn_cuMemPrefetchAsync
#define cuGraphAddDependencies ctn_cuGraphAddDependencies
#define cuGraphGetEdges ctn_cuGraphGetEdges

#endif
