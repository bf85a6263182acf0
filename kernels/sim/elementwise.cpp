#include "../elementwise/elementwise.cu"
