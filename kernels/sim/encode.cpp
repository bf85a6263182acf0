#include "../graph/encode.cu"

CTN_SIM_ENTRY(cu_encode_prepare_f32)
CTN_SIM_ENTRY(cu_encode_prepare_bf16)
CTN_SIM_ENTRY(cu_encode_f32)
CTN_SIM_ENTRY(cu_encode_bf16_64)
CTN_SIM_ENTRY(cu_encode_bf16_128)
CTN_SIM_ENTRY(cu_encode_bf16_256)
CTN_SIM_ENTRY(cu_encode_back_f32)
CTN_SIM_ENTRY(cu_encode_back_bf16_64)
CTN_SIM_ENTRY(cu_encode_back_bf16_128)
CTN_SIM_ENTRY(cu_encode_back_bf16_256)
CTN_SIM_ENTRY(cu_encode_weights_f32)
CTN_SIM_ENTRY(cu_encode_weights_bf16)
