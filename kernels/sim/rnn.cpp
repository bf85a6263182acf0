#include "../rnn/rnn.cu"

CTN_SIM_ENTRY(cu_rnn_prepare)
CTN_SIM_ENTRY(cu_rnn_rollout_one)
CTN_SIM_ENTRY(cu_rnn_rollout_many)
CTN_SIM_ENTRY(cu_rnn_rollout_wide)
CTN_SIM_ENTRY(cu_rnn_bptt_one)
CTN_SIM_ENTRY(cu_rnn_bptt_many)
CTN_SIM_ENTRY(cu_rnn_bptt_wide)
CTN_SIM_ENTRY(cu_rnn_parts)
CTN_SIM_ENTRY(cu_rnn_finish)
CTN_SIM_ENTRY(cu_rnn_gradient)
