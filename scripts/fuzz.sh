#!/bin/sh
# Runs every fuzz target of the repository for FUZZTIME each, two side by side. Exits non-zero where one finds something.
set -eu
cd "$(dirname "$0")/.."

# Go before 1.27 sometimes reports the end of -fuzztime itself as a failure: "context deadline exceeded" and nothing else
# (https://go.dev/issue/75804). A finding always names the input it wrote, and a panic or a failed check prints more than that line.
only_deadline() { # log, target
	! grep -q -E 'Failing input written|panic|^        ' "$1" &&
		[ "$(sed -n '/^--- FAIL: /,/^FAIL$/p' "$1" | sed 's/ ([0-9.]*s)$//')" = "--- FAIL: $2
    context deadline exceeded
FAIL" ]
}

# An input that reaches new code is made smaller in ten tries at most: by default Go spends its whole time on that.
fuzz() { # file, target
	log=$(mktemp)
	status=0
	"${GO:-go}" test -run '^$' -fuzz "^$2\$" -fuzztime "${FUZZTIME:-30s}" -fuzzminimizetime 10x -parallel 1 "./$(dirname "$1")" >"$log" 2>&1 || status=$?
	if [ $status = 0 ]; then
		echo "fuzz: $2 in $(dirname "$1"): $(grep 'execs' "$log" | tail -n 1 | sed 's/^fuzz: //')"
	elif only_deadline "$log" "$2"; then
		status=0
		echo "fuzz: $2 in $(dirname "$1"): ran to the end of its time and found nothing (go.dev/issue/75804)"
	else
		echo "fuzz: $2 in $(dirname "$1") failed"
		cat "$log"
	fi
	rm -f "$log"
	return $status
}

if [ $# = 2 ]; then
	fuzz "$@"
	exit
fi
git grep -n -E '^func Fuzz[A-Za-z0-9_]*\(' -- '*_test.go' | sed -E 's/^([^:]*):[0-9]+:func (Fuzz[A-Za-z0-9_]*).*/\1 \2/' |
	xargs -P 2 -n 2 sh scripts/fuzz.sh
