#include "../depthwise/depthwise.cu"
