#include "../image/regions.cu"
