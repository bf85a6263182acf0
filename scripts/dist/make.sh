#!/bin/sh
# Packs what a GPU machine without Go needs (bundle.sh) with the compiled kernels and the table of NAS-Bench-101, where this machine has it, into
# build/dist/ctnas-gpu.tar.xz. `make dist` calls this. For one architecture the archive must stay below what can be handed to a machine that is lent.
set -eu
cd "$(dirname "$0")/../.."
most=$((40 << 20))
name=build/dist/ctnas-gpu
scripts/licenses.sh --check
rm -rf build/dist
mkdir -p build/dist/fatbins
cp kernels/fatbin/bin/*.fatbin kernels/sim/selftest*.fatbin build/dist/fatbins/
scripts/dist/bundle.sh "$name" build/dist/fatbins
! [ -f cuda/testdata/probe.fatbin ] || cp cuda/testdata/probe.fatbin "$name/cases/cuda/testdata/"
table=$(scripts/data.sh nb101_run0.csv.gz)
[ -z "$table" ] || cp "$table" "$name/"
# Both programs hold much of the same code: a window that sees both.
tar -C build/dist -cf - ctnas-gpu | xz -T1 --lzma2=preset=4,dict=128MiB >"$name.tar.xz"
bytes=$(wc -c <"$name.tar.xz")
echo "$name.tar.xz: $bytes bytes"
case ${CTNAS_CUDA_ARCHS:-} in
'' | *' '*) ;;
*) [ "$bytes" -le $most ] || { echo "that is more than $most bytes" >&2 && exit 1; } ;;
esac
