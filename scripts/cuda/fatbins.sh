#!/bin/sh
# Compiles the kernels that changed, with CMakeLists.txt, for CTNAS_CUDA_ARCHS ("80 90"; empty: for everything).
set -eu
cd "$(dirname "$0")/../.."
home=$(scripts/cuda/toolkit.sh install)
if [ ! -x "$home/bin/nvcc" ]; then
	echo "the CUDA toolkit in $home has headers and no nvcc: set CUDA_HOME to a whole one" >&2
	exit 1
fi
for tool in cmake make g++; do
	if ! command -v $tool >/dev/null 2>&1; then
		printf 'compiling the kernels needs %s. Install it with:\n    sudo apt-get install %s\n' $tool $tool >&2
		exit 1
	fi
done
cmake -S . -B build/cuda/kernels -G 'Unix Makefiles' -DCTNAS_CUDA_HOME="$home" -DCTNAS_CUDA_ARCHS="${CTNAS_CUDA_ARCHS:-}" >build/cuda/cmake.log ||
	{ cat build/cuda/cmake.log && exit 1; }
grep 'left out' build/cuda/cmake.log || true
MAKEFLAGS='' cmake --build build/cuda/kernels --parallel "$(nproc)" -- --no-print-directory
