#include "../loss/mixup.cu"
