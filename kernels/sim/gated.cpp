#include "../graph/gated.cu"
