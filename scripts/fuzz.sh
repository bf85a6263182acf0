#!/bin/sh
# Runs every fuzz target of the repository for FUZZTIME each; the first that fails ends it.
set -eu
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Go before 1.27 sometimes reports the end of -fuzztime itself as a failure: "context deadline exceeded" and nothing else
# (https://go.dev/issue/75804). A finding always names the input it wrote, and a panic or a failed check prints more than that line.
only_deadline() {
	! grep -q -E 'Failing input written|panic|^        ' "$log" &&
		[ "$(sed -n '/^--- FAIL: /,/^FAIL$/p' "$log" | sed 's/ ([0-9.]*s)$//')" = "--- FAIL: $1
    context deadline exceeded
FAIL" ]
}

git grep -n -E '^func Fuzz[A-Za-z0-9_]*\(' -- '*_test.go' | sed -E 's/^([^:]*):[0-9]+:func (Fuzz[A-Za-z0-9_]*).*/\1 \2/' |
	while read -r file target; do
		echo "fuzz: $target in $(dirname "$file")"
		status=0
		"${GO:-go}" test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-30s}" -parallel 2 "./$(dirname "$file")" >"$log" 2>&1 || status=$?
		cat "$log"
		[ $status = 0 ] && continue
		only_deadline "$target" || exit $status
		echo "fuzz: $target ran to the end of its time and found nothing (go.dev/issue/75804)"
	done
