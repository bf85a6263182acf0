#!/bin/sh
# Names the C and CUDA sources that clang-format would lay out differently. A hint, not a failure: its versions disagree with each other.
set -eu
cd "$(dirname "$0")/.."
if ! command -v clang-format >/dev/null 2>&1; then
	echo "clang-format is not installed: the layout of C sources is not looked at (sudo apt-get install clang-format)"
	exit 0
fi
git ls-files '*.c' '*.h' '*.cu' '*.cuh' | while read -r file; do
	lines=$(clang-format "$file" | diff "$file" - | grep -c '^[<>]' || true)
	[ "$lines" = 0 ] || echo "$file: $(clang-format --version | sed 's/.*clang-format/clang-format/') would change $lines lines"
done
