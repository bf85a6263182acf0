#include "../graph/layer.cu"

CTN_SIM_ENTRY(cu_layer_f32)
CTN_SIM_ENTRY(cu_layer_bf16)
CTN_SIM_ENTRY(cu_layer_round)
