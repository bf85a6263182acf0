#include "../rnn/reinforce.cu"
