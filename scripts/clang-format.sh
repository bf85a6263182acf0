#!/bin/sh
# Checks the layout of the C and CUDA sources where clang-format is installed, and says so where it is not.
set -eu
cd "$(dirname "$0")/.."
if ! command -v clang-format >/dev/null 2>&1; then
	echo "clang-format is not installed: the layout of C sources is not checked (sudo apt-get install clang-format)"
	exit 0
fi
git ls-files -z '*.c' '*.h' '*.cu' '*.cuh' | xargs -0 -r clang-format --dry-run --Werror
