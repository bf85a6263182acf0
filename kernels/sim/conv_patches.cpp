#include "../conv/patches.cu"
