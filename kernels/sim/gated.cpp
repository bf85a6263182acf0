#include "../graph/gated.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_gated)
CTN_SIM_ENTRY(cu_gated_backward)
CTN_SIM_ENTRY(cu_dense)
CTN_SIM_ENTRY(cu_dense_bf16)
CTN_SIM_ENTRY(cu_dense_backward)
CTN_SIM_ENTRY(cu_dense_backward_bf16)
