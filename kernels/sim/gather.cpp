#include "../graph/gather.cu"
