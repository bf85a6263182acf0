#include "../conv/conv_weight.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_conv_weight)
CTN_SIM_ENTRY(cu_conv_weight_bf16_64)
CTN_SIM_ENTRY(cu_conv_weight_bf16_128)
CTN_SIM_ENTRY(cu_conv_weight_sum)
