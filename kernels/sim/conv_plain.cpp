#include "../conv/conv_plain.cu"
