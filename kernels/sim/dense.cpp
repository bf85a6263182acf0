#include "../dense/dense.cu"
