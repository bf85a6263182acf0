#include "../optim/optim.cu"
