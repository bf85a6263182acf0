#!/bin/sh
# scripts/python/test.sh WHEEL: installs a wheel into an environment of its own, without a network, and runs the package's tests in it. Skips
# where there is no Python with venv. CTNAS_PYTHON names a Python whose pandas, polars and torch the tests then use, in the place of an
# environment.
set -eu
wheel=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
tests=$(cd "$(dirname "$0")/../../python/tests" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
if [ -n "${CTNAS_PYTHON:-}" ]; then
	"$CTNAS_PYTHON" -m pip install --quiet --no-index --no-deps --target "$dir" "$wheel"
	cd "$dir"
	PYTHONPATH=$dir "$CTNAS_PYTHON" -m unittest discover -s "$tests" -t "$tests"
	exit
fi
python=python3
if ! "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
	echo "skipped: there is no $python 3.10 with venv (sudo apt-get install python3-venv)"
	exit 0
fi
"$python" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-index --no-deps "$wheel"
cd "$dir"
"$dir/venv/bin/ctnas" --version
"$dir/venv/bin/python" -m unittest discover -s "$tests" -t "$tests"
