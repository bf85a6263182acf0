#!/bin/sh
# Packs what a GPU machine without Go needs: the program, the tests as binaries, the comparison with PyTorch, and run.sh, which runs them all
# and leaves one file of results. `make dist` calls this; the archive is build/dist/ctnas-gpu.tar.gz. Everything is built without optional libraries, which that
# machine may lack.
set -eu
cd "$(dirname "$0")/../.."
out=build/dist/ctnas-gpu
scripts/licenses.sh --check
rm -rf build/dist
mkdir -p "$out/bin" "$out/tests" "$out/scripts"
scripts/cuda/with.sh "${GO:-go}" build -trimpath -tags cuda -o "$out/bin/ctnas" ./cmd/ctnas
cp -r scripts/peers "$out/scripts/"
rm -rf "$out/scripts/peers/__pycache__"
cp scripts/dist/run.sh LICENSE cmd/ctnas/THIRD_PARTY_LICENSES "$out/"
for package in cuda $(git ls-files 'kernels/*.cu' | xargs -n 1 dirname | sort -u) gcn search/controller trainer; do
	[ "$package" != kernels/sim ] || continue
	to=$out/tests/$(echo "$package" | tr / _)
	mkdir -p "$to"
	scripts/cuda/with.sh "${GO:-go}" test -c -trimpath -ldflags '-s -w' -tags cuda -o "$to/test" "./$package"
	[ ! -d "$package/testdata" ] || cp -r "$package/testdata" "$to/"
done
table=$(scripts/data.sh nb101_run0.csv.gz)
[ -z "$table" ] || cp "$table" "$out/"
tar -C build/dist -czf build/dist/ctnas-gpu.tar.gz ctnas-gpu
ls -l build/dist/ctnas-gpu.tar.gz
