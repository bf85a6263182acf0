#include "../conv/conv_weight.cu"
