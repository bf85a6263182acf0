#!/bin/sh
# Prints what scripts/cuda/report finds in the machine code and the programs of H100 and H200: `make gpu-report`. It needs NVIDIA's cuobjdump
# and nvdisasm, which toolkit.sh installs beside the compiler, and kernels that were compiled for 9.0.
set -eu
cd "$(dirname "$0")/../.."
home=$(scripts/cuda/toolkit.sh install)
if [ ! -x "$home/bin/cuobjdump" ] && [ -x "build/cuda/toolkit-13.0/bin/pip" ]; then # installed before these were in its list
	build/cuda/toolkit-13.0/bin/pip install --quiet --disable-pip-version-check --require-hashes -r scripts/cuda/toolkit-13.0.txt >&2
fi
cuobjdump=$home/bin/cuobjdump
[ -x "$cuobjdump" ] || cuobjdump=$(command -v cuobjdump || true)
if [ -z "$cuobjdump" ]; then
	echo "no cuobjdump in $home/bin or on the PATH: the machine code was not read" >&2
	exit 1
fi
"${GO:-go}" run ./scripts/cuda/report -cuobjdump "$cuobjdump" "$@"
