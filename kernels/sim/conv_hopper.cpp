#include "../conv/hopper.cu"
