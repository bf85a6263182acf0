#include "../conv/hopper_weight.cu"
