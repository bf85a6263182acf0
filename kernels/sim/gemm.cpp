#include "../gemm/gemm.cu"
