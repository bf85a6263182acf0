#include "../conv/conv.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_conv_pack)
CTN_SIM_ENTRY(cu_conv_pack_bf16)
CTN_SIM_ENTRY(cu_conv)
CTN_SIM_ENTRY(cu_conv_bf16_32)
CTN_SIM_ENTRY(cu_conv_bf16_64)
CTN_SIM_ENTRY(cu_conv_bf16_128)
CTN_SIM_ENTRY(cu_conv_input)
CTN_SIM_ENTRY(cu_conv_input_bf16_32)
CTN_SIM_ENTRY(cu_conv_input_bf16_64)
CTN_SIM_ENTRY(cu_conv_input_bf16_128)
