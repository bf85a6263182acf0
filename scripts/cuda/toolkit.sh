#!/bin/sh
# Prints the home of a CUDA toolkit: the folder with include/cuda.h and, but for a toolkit of headers alone, bin/nvcc.
#   find       the one this machine has (CUDA_HOME, PATH, /usr/local/cuda, build/cuda); nothing and status 1 where there is none
#   install    the same, or installs the compiler and headers from PyPI into build/cuda
# CUDA_VERSION=12.9 chooses another release than 13.0, from PyPI alone: there it has headers and no nvcc.
set -eu
cd "$(dirname "$0")/../.."
version=${CUDA_VERSION:-13.0}
venv=$PWD/build/cuda/toolkit-$version

# Its packages with their hashes, written by scripts/lock.py.
packages() {
	list=scripts/cuda/toolkit-$version.txt
	if [ ! -f "$list" ]; then
		echo "CUDA_VERSION=$version: want 13.0 or 12.9, or a toolkit of yours in CUDA_HOME" >&2
		exit 2
	fi
	echo "$list"
}

# Of the pip packages: the home is written down last, so that an installation that was cut short does not count.
installed() { [ -f "$venv/home" ] && cat "$venv/home"; }

# package cuda calls functions of 12.4.
usable() {
	header=$1/include/cuda.h
	[ -f "$header" ] && [ "$(sed -n 's/^#define CUDA_VERSION //p' "$header")" -ge 12040 ]
}

find_home() {
	if [ -n "${CUDA_HOME:-}" ]; then
		if ! usable "$CUDA_HOME"; then
			echo "CUDA_HOME is $CUDA_HOME, which has no include/cuda.h of CUDA 12.4 or newer" >&2
			exit 2
		fi
		echo "$CUDA_HOME"
		return 0
	fi
	if [ -z "${CUDA_VERSION:-}" ]; then
		for nvcc in "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc; do
			[ -x "$nvcc" ] || continue
			home=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
			if usable "$home"; then
				echo "$home"
				return 0
			fi
		done
	fi
	installed
}

install() {
	list=$(packages)
	if ! python3 -c 'import venv, ensurepip' >/dev/null 2>&1; then
		printf 'Installing the CUDA compiler needs python3 with venv. Install it with:\n    sudo apt-get install python3-venv\n' >&2
		exit 1
	fi
	echo "installing the CUDA $version compiler and headers into $venv" >&2
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$list" >&2
	header=$(find "$venv" -path '*/include/cuda.h')
	home=$(dirname "$(dirname "$header")")
	echo "$home" >"$venv/home"
	echo "$home"
}

case ${1:-} in
find) find_home ;;
install) find_home || install ;;
*)
	echo "usage: $0 find|install" >&2
	exit 2
	;;
esac
