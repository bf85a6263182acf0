#include "../cell/decode.cu"

CTN_SIM_ENTRY(cu_decode)
