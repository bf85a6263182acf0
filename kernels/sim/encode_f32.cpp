#include "../graph/encode_f32.cu"
