#include "../gemm/gemm.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_gemm_f32)
CTN_SIM_ENTRY(cu_gemm_bf16)
CTN_SIM_ENTRY(cu_gemm_tn_f32)
CTN_SIM_ENTRY(cu_gemm_tn_bf16)
CTN_SIM_ENTRY(cu_gemm_tn_sum)
