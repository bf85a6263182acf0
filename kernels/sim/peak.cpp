#include "../peak/peak.cu"

CTN_SIM_ENTRY(cu_peak_f32)
CTN_SIM_ENTRY(cu_peak_bf16)
CTN_SIM_ENTRY(cu_copy)
