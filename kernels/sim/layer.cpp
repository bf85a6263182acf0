#include "../graph/layer.cu"
