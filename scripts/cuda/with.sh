#!/bin/sh
# Runs a command, such as `go build -tags cuda`, with the flags that cgo needs for a GPU build. They come from the environment because cgo
# links every package on its own and gorgonia.org/cu knows nothing of ours: its -lcuda must find cuda/shim, its cuda.h cuda/compat.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
home=$("$root/scripts/cuda/toolkit.sh" install)
cc=${CC:-gcc}

# Go sees neither a changed archive nor a changed header outside a package. A folder named by their content gives it other flags.
key=$(cat "$root/cuda/compat/cuda.h" "$root/cuda/driver.h" "$root/cuda/shim/"* "$home/include/cuda.h" "$0" | sha256sum | cut -c 1-16)
glue=$root/build/cuda/glue-$key
if [ ! -f "$glue/libcuda.a" ]; then
	new=$glue.$$
	mkdir -p "$new"
	cp "$root/cuda/compat/cuda.h" "$new/cuda.h"
	"$cc" -O2 -std=gnu11 -Wall -Wextra -fPIC -I"$home/include" -c -o "$new/shim.o" "$root/cuda/shim/shim.c"
	ar rc "$new/libcuda.a" "$new/shim.o"
	rm -rf "$glue"
	mv "$new" "$glue"
fi
# go-nvml has functions that its header calls deprecated.
export CGO_CFLAGS="${CGO_CFLAGS:--O2 -g} -Wno-deprecated-declarations -I$glue -I$home/include"
export CGO_LDFLAGS="${CGO_LDFLAGS:--O2 -g} -L$glue -ldl"
exec "$@"
