#!/bin/sh
# bundle.sh OUT FATBINS makes the folder OUT: what a GPU machine without Go needs to test and measure ctnas. FATBINS is
# the folder of compiled kernels that goes into it.
#
#   bin/ctnas, bin/gpucheck    without kernels and without the simulator, stripped
#   bin/cudatest               the tests of package cuda, which stand inside of it and would have all that is above it compiled again
#   fatbins/                   the kernels: CTNAS_FATBINS
#   src/                       their sources, for recompile.sh
#   cases/                     files that tests read
#   scripts/peers/             the comparison with PyTorch
#   run.sh, recompile.sh
#
# Both programs are built in a copy of the module that has no fatbins to embed. No optional libraries: that machine may
# lack them.
set -eu
[ $# = 2 ] || { echo "usage: bundle.sh OUT FATBINS" >&2 && exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
fatbins=$(cd "$2" && pwd)
cd "$(dirname "$0")/../.."
go=${GO:-go}
tree=$out.tree
rm -rf "$tree" "${out:?}"/*
mkdir -p "$tree" "$out/bin" "$out/fatbins" "$out/src" "$out/scripts"

git ls-files -co --exclude-standard go.mod go.sum cmd cuda gcn internal kernels search trainer |
	while read -r f; do [ ! -f "$f" ] || echo "$f"; done | xargs cp --parents -t "$tree"
packages="kernels/sim $(git ls-files 'kernels/*.cu' | xargs -n 1 dirname | sort -u | grep -v kernels/sim) gcn search/controller trainer"
scripts/cuda/with.sh "$go" build -C "$tree" -trimpath -tags cuda,nofarm -ldflags '-s -w' -o "$out/bin/ctnas" ./cmd/ctnas
# shellcheck disable=SC2086 # words
"$go" run scripts/dist/gpucheck.go "$tree" $packages
scripts/cuda/with.sh "$go" build -C "$tree" -trimpath -tags cuda -ldflags '-s -w -X testing.testBinary=1' -o "$out/bin/gpucheck" ./gpucheck
scripts/cuda/with.sh "$go" test -C "$tree" -c -trimpath -tags cuda -ldflags '-s -w' -o "$out/bin/cudatest" ./cuda
for package in cuda $packages; do
	[ ! -d "$tree/$package/testdata" ] || { mkdir -p "$out/cases/$package" && cp -r "$tree/$package/testdata" "$out/cases/$package/"; }
done
rm -rf "$tree"

cp "$fatbins"/*.fatbin "$out/fatbins/"
git ls-files 'kernels/*.cu' 'kernels/*.cuh' 'kernels/*.h' | xargs cp --parents -t "$out/src"
cp -r scripts/peers "$out/scripts/"
rm -rf "$out/scripts/peers/__pycache__"
cp scripts/dist/run.sh scripts/dist/recompile.sh LICENSE cmd/ctnas/THIRD_PARTY_LICENSES "$out/"
