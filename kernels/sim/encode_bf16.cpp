#include "../graph/encode_bf16.cu"
