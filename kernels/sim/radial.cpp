#include "../dense/radial.cu"
