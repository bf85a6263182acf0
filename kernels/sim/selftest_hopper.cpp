#include "selftest_hopper.cu"
