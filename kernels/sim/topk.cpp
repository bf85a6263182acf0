#include "../dense/topk.cu"
