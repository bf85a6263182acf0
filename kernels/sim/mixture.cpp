#include "../mixture/mixture.cu"
