#include "../loss/classes.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_classes)
CTN_SIM_ENTRY(cu_classes_bf16)
CTN_SIM_ENTRY(cu_classes_sum)
