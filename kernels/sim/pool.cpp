#include "../pool/pool.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_pool_max)
CTN_SIM_ENTRY(cu_pool_max_bf16)
CTN_SIM_ENTRY(cu_pool_average)
CTN_SIM_ENTRY(cu_pool_average_bf16)
CTN_SIM_ENTRY(cu_pool_max_backward)
CTN_SIM_ENTRY(cu_pool_max_backward_bf16)
CTN_SIM_ENTRY(cu_pool_average_backward)
CTN_SIM_ENTRY(cu_pool_average_backward_bf16)
CTN_SIM_ENTRY(cu_pool_global)
CTN_SIM_ENTRY(cu_pool_global_bf16)
CTN_SIM_ENTRY(cu_pool_global_backward)
CTN_SIM_ENTRY(cu_pool_global_backward_bf16)
