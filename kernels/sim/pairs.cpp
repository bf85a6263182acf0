#include "../loss/pairs.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_allpairs)
CTN_SIM_ENTRY(cu_allpairs_sum)
CTN_SIM_ENTRY(cu_pairlist)
CTN_SIM_ENTRY(cu_pairlist_sum)
CTN_SIM_ENTRY(cu_squared)
