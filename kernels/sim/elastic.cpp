#include "../elastic/elastic.cu"
