#!/bin/sh
# Runs every fuzz target of the repository for FUZZTIME each, two side by side. Exits non-zero where one finds something.
#
# A package's targets are in one binary, and all binaries are built before any runs: two builds side by side would each
# compile what both need.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}

# Go before 1.27 sometimes reports the end of -fuzztime itself as a failure: "context deadline exceeded" and nothing else
# (https://go.dev/issue/75804). A finding always names the input it wrote, and a panic or a failed check prints more than that line.
only_deadline() { # log, target
	! grep -q -E 'Failing input written|panic|^        ' "$1" &&
		[ "$(sed -n '/^--- FAIL: /,/^FAIL$/p' "$1" | sed 's/ ([0-9.]*s)$//')" = "--- FAIL: $2
    context deadline exceeded
FAIL" ]
}

build() { # package, folder of the binaries; nobody debugs them
	"$go" test -c -gcflags=all=-dwarf=false -fuzz . -o "$2/$(echo "$1" | tr / -)" "./$1"
}

# An input that reaches new code is made smaller in ten tries at most: by default Go spends its whole time on that. What
# was found before is where `go test` keeps it.
fuzz() { # package, target, folder of the binaries
	log=$(mktemp)
	status=0
	kept=$("$go" env GOCACHE)/fuzz/$("$go" list "./$1")
	(cd "$1" && exec "$3/$(echo "$1" | tr / -)" -test.paniconexit0 -test.run '^$' -test.fuzz "^$2\$" \
		-test.fuzztime "${FUZZTIME:-30s}" -test.fuzzminimizetime 10x -test.parallel 1 -test.fuzzcachedir "$kept") >"$log" 2>&1 || status=$?
	grep -q 'no fuzz tests to fuzz' "$log" && status=1 # which is no failure to Go
	if [ $status = 0 ]; then
		echo "fuzz: $2 in $1: $(grep 'execs' "$log" | tail -n 1 | sed 's/^fuzz: //')"
	elif only_deadline "$log" "$2"; then
		status=0
		echo "fuzz: $2 in $1: ran to the end of its time and found nothing (go.dev/issue/75804)"
	else
		echo "fuzz: $2 in $1 failed"
		cat "$log"
	fi
	rm -f "$log"
	return $status
}

case $# in
2) build "$@" && exit ;;
3) fuzz "$@" && exit ;;
esac
[ $# = 0 ] || exit 1

built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
targets=$(git grep -E '^func Fuzz[A-Za-z0-9_]*\(' -- '*_test.go' | sed -E 's/^(.*)\/[^:]*:func (Fuzz[A-Za-z0-9_]*).*/\1 \2/')
packages=$(echo "$targets" | cut -d ' ' -f 1 | sort -u)
build cmd/ctnas "$built" # needs nearly all that the others need
echo "$packages" | grep -v '^cmd/ctnas$' | xargs -P 2 -I '{}' sh scripts/fuzz.sh '{}' "$built"
echo "$targets" | xargs -P 2 -I '{}' sh -c 'sh scripts/fuzz.sh $1 "$2"' - '{}' "$built"
