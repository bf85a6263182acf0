#include "../norm/norm.cu"
