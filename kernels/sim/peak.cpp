#include "../peak/peak.cu"
