#include "../graph/topk.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_topk_digit)
CTN_SIM_ENTRY(cu_topk_collect)
CTN_SIM_ENTRY(cu_topk_sort)
