#include "../rnn/rnn.cu"
