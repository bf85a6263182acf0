#include "../optim/optim.cu"
#include "cuda_sim.h"

CTN_SIM_ENTRY(cu_adam)
CTN_SIM_ENTRY(cu_sgd)
CTN_SIM_ENTRY(cu_rmsprop)
CTN_SIM_ENTRY(cu_norm)
CTN_SIM_ENTRY(cu_ema)
CTN_SIM_ENTRY(cu_schedule)
