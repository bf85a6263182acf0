#include "../conv/conv_point.cu"
