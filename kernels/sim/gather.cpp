#include "../graph/gather.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_gather)
CTN_SIM_ENTRY(cu_colsum)
CTN_SIM_ENTRY(cu_colsum_bf16)
CTN_SIM_ENTRY(cu_colsum_sum)
CTN_SIM_ENTRY(cu_rowdot)
CTN_SIM_ENTRY(cu_rowdot_backward)
