#include "../pool/pool.cu"
