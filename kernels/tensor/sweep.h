// How many threads a block of a sweep has: see sweep.cuh.
#ifndef CTN_TENSOR_SWEEP_H
#define CTN_TENSOR_SWEEP_H

enum { CTN_SWEEP_THREADS = 256 };

#endif
