#include "../peak/peak.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_peak_f32)
CTN_SIM_ENTRY(cu_peak_bf16)
CTN_SIM_ENTRY(cu_copy)
