#include "../elementwise/elementwise.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_sum)
CTN_SIM_ENTRY(cu_sum_bf16)
CTN_SIM_ENTRY(cu_sum_bf16_f32)
CTN_SIM_ENTRY(cu_sum_f32_bf16)
CTN_SIM_ENTRY(cu_sum_backward)
CTN_SIM_ENTRY(cu_sum_backward_bf16)
CTN_SIM_ENTRY(cu_gate_gradient)
CTN_SIM_ENTRY(cu_gate_gradient_bf16)
CTN_SIM_ENTRY(cu_shuffle)
CTN_SIM_ENTRY(cu_shuffle_bf16)
CTN_SIM_ENTRY(cu_shuffle_backward)
CTN_SIM_ENTRY(cu_shuffle_backward_bf16)
CTN_SIM_ENTRY(cu_droppath)
