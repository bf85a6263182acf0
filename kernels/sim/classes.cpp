#include "../loss/classes.cu"
