#include "../loss/pairs.cu"
