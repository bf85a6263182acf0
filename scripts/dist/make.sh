#!/bin/sh
# Packs what a GPU machine without Go needs: the program, the tests as binaries, the comparison with PyTorch, and run.sh, which runs them all
# and leaves one file of results. `make dist` calls this; the archive is build/dist/ctnas-gpu.tar.gz. Arguments: the build tags.
set -eu
cd "$(dirname "$0")/../.."
tags=$1
out=build/dist/ctnas-gpu
rm -rf build/dist
mkdir -p "$out/bin" "$out/tests" "$out/scripts"
cp bin/ctnas "$out/bin/"
cp -r scripts/peers "$out/scripts/"
rm -rf "$out/scripts/peers/__pycache__"
cp scripts/dist/run.sh "$out/"
for package in cuda $(git ls-files 'kernels/*_test.go' | xargs -n 1 dirname | sort -u) gcn search/controller; do
	case $package in kernels/exec | kernels/philox | kernels/fatbin | kernels/image) continue ;; esac
	to=$out/tests/$(echo "$package" | tr / _)
	mkdir -p "$to"
	scripts/cuda/with.sh "${GO:-go}" test -c -trimpath -ldflags '-s -w' -tags "$tags" -o "$to/test" "./$package"
	[ ! -d "$package/testdata" ] || cp -r "$package/testdata" "$to/"
done
table=$(scripts/data.sh nb101_run0.csv.gz)
[ -z "$table" ] || cp "$table" "$out/"
tar -C build/dist -czf build/dist/ctnas-gpu.tar.gz ctnas-gpu
ls -l build/dist/ctnas-gpu.tar.gz
