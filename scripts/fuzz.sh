#!/bin/sh
# Runs every fuzz target of the repository for FUZZTIME each; the first that fails ends it.
set -eu
cd "$(dirname "$0")/.."
git grep -n -E '^func Fuzz[A-Za-z0-9_]*\(' -- '*_test.go' | sed -E 's/^([^:]*):[0-9]+:func (Fuzz[A-Za-z0-9_]*).*/\1 \2/' |
	while read -r file target; do
		echo "fuzz: $target in $(dirname "$file")"
		"${GO:-go}" test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-30s}" -parallel 2 "./$(dirname "$file")"
	done
