#include "../loss/pairs.cu"

CTN_SIM_ENTRY(cu_allpairs)
CTN_SIM_ENTRY(cu_allpairs_sum)
CTN_SIM_ENTRY(cu_pairlist)
CTN_SIM_ENTRY(cu_pairlist_sum)
CTN_SIM_ENTRY(cu_squared)
