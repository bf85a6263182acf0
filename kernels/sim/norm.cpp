#include "../norm/norm.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_batchnorm)
CTN_SIM_ENTRY(cu_batchnorm_fixed)
CTN_SIM_ENTRY(cu_batchnorm_backward)
CTN_SIM_ENTRY(cu_batchnorm_count)
