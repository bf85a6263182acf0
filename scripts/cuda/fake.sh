#!/bin/sh
# Builds the fake driver and prints its folder, for LD_LIBRARY_PATH: `fake.sh kernels` runs the project's kernels in the simulator, `fake.sh`
# those of package cuda's own tests. Each has a folder of its own, named by what it was built from.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
home=$("$root/scripts/cuda/toolkit.sh" install)
cd "$root"
which=${1:-probe}
case $which in
probe) parts="cuda/testdata/sim.c" ;;
kernels) parts=$(ls kernels/sim/*.cpp) ;;
*)
	echo "usage: fake.sh [kernels]" >&2
	exit 2
	;;
esac
key=$(cat kernels/sim/fake/* cuda/testdata/*.[chu]* kernels/*/*.cu kernels/*/*.cuh kernels/*/*.h $parts "$0" | sha256sum | cut -c 1-16)
out=$root/build/cuda/fake/$which-$key
if [ ! -f "$out/libcuda.so.1" ]; then
	new=$root/build/cuda/fake/new-$$
	mkdir -p "$new"
	"${CC:-gcc}" -O2 -g -std=gnu11 -Wall -Wextra -fPIC -I"$home/include" -c -o "$new/driver.o" kernels/sim/fake/driver.c
	export CC CXX new
	# shellcheck disable=SC2016 # the inner shell expands them
	echo "$parts" | xargs -P 2 -n 1 sh -c 'case $1 in
		*.c) "${CC:-gcc}" -O2 -g -std=gnu11 -Wall -Wextra -fPIC -c -o "$new/$(basename "$1").o" "$1" ;;
		*) "${CXX:-g++}" -O1 -g1 -std=c++17 -Wno-unknown-pragmas -Wno-psabi -fno-strict-aliasing -fPIC -c -o "$new/$(basename "$1").o" "$1" ;;
	esac' sh
	"${CXX:-g++}" -shared -Wl,-Bsymbolic -Wl,-soname,libcuda.so.1 -o "$new/libcuda.so.1" "$new"/*.o -lpthread
	rm -rf "$root/build/cuda/fake/$which"-* "$new"/*.o
	mv "$new" "$out"
fi
echo "$out"
