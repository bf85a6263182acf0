#include "../conv/conv.cu"
