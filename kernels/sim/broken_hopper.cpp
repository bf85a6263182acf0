#include "broken_hopper.cu"
