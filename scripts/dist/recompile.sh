#!/bin/sh
# recompile.sh FILE.cu... compiles kernels of src/ again with this machine's nvcc and puts them into fatbins/, where the programs find them:
#
#   vi src/kernels/conv/conv.cu && ./recompile.sh src/kernels/conv/conv.cu && ./run.sh profile
#
# It compiles for the GPU of this machine. NVCC names another compiler, ARCH another architecture (90, or 90a).
set -eu
[ $# -gt 0 ] || { echo "usage: recompile.sh FILE.cu..." >&2 && exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
[ -x "$nvcc" ] || { echo "recompile.sh: no nvcc: set NVCC" >&2 && exit 1; }
arch=${ARCH:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)}
[ -n "$arch" ] || { echo "recompile.sh: nvidia-smi names no GPU: set ARCH" >&2 && exit 1; }
for file; do
	# A file for one generation says so, as in CMakeLists.txt: "// ctnas-archs: 90a".
	own=$(sed -n '1s|^// ctnas-archs: *||p' "$file" | tr ' ' '\n' | grep -x "$arch[a-z]*" | head -n 1 || true)
	to=$here/fatbins/$(basename "$file" .cu).fatbin
	"$nvcc" --fatbin -O3 -lineinfo -std=c++17 -Xptxas -v -gencode "arch=compute_${own:-$arch},code=sm_${own:-$arch}" -o "$to.new" "$file"
	mv "$to.new" "$to"
	echo "compiled $to for sm_${own:-$arch}"
done
