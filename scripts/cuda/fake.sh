#!/bin/sh
# Builds the fake driver and prints its folder, for LD_LIBRARY_PATH. Arguments are what the compiler shall link it with: sources, objects or
# libraries that define the functions of cuda/fake/sim.h; without any, the kernels of package cuda's own tests.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
home=$("$root/scripts/cuda/toolkit.sh" install)
[ $# -gt 0 ] || set -- "$root/cuda/testdata/sim.c"
out=$root/build/cuda/fake
mkdir -p "$out"
"${CC:-gcc}" -O2 -g -std=gnu11 -Wall -Wextra -shared -fPIC -Wl,-Bsymbolic -Wl,-soname,libcuda.so.1 -I"$home/include" \
	-o "$out/libcuda.so.1.$$" "$root/cuda/fake/driver.c" "$@" -lpthread
mv "$out/libcuda.so.1.$$" "$out/libcuda.so.1"
echo "$out"
