#!/bin/sh
# Prints the C flag that compiles the 16-lane code for AVX2 too (kernels/exec/exec.h), for tests on a machine without AVX-512. Where there is
# AVX-512 the tests execute the code itself.
grep -qs -w avx512vl /proc/cpuinfo || echo -DCTN_WITH_AVX2X16
