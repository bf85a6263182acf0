#include "../partial/partial.cu"
