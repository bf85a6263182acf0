#include "broken.cu"
