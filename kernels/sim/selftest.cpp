#include "selftest.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(ctn_selftest_product8)
CTN_SIM_ENTRY(ctn_selftest_product16)
CTN_SIM_ENTRY(ctn_selftest_sum)
CTN_SIM_ENTRY(ctn_selftest_bf16)
CTN_SIM_ENTRY(ctn_selftest_tf32)
CTN_SIM_ENTRY(ctn_selftest_round)
CTN_SIM_ENTRY(ctn_selftest_warp)
CTN_SIM_ENTRY(ctn_selftest_atomic)
CTN_SIM_ENTRY(ctn_selftest_rotate)
CTN_SIM_ENTRY(ctn_selftest_rotate_warp)
