#include "../conv/pack.cu"
