#include "../cell/decode.cu"
