#include "../loss/mixup.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_mixup)
CTN_SIM_ENTRY(cu_mixup_bf16)
