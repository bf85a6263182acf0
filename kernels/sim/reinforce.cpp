#include "../rnn/reinforce.cu"

CTN_SIM_ENTRY(cu_reinforce)
