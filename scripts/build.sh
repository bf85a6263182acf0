#!/bin/sh
# scripts/build.sh ARGS...: go build ARGS, which says what it compiles and how far it is. The package to build is the last argument.
# On a terminal the line is written over; elsewhere there are lines for the packages of this program, which hold the C kernels and take longest.
set -eu
go=${GO:-go}
for package; do :; done
tags=
[ "$1" != -tags ] || tags="-tags=$2"
# What Go would not find in its cache, and which of it has C, a line each.
stale=$("$go" list ${tags:+"$tags"} -deps -f '{{if .Stale}}{{.ImportPath}} {{len .CgoFiles}}{{end}}' "$package" 2>/dev/null) || stale=
[ "$(echo "$stale" | wc -l)" -le 1 ] || echo "compiling $(echo "$stale" | wc -l) packages, $(echo "$stale" | grep -vc ' 0$') of them with C" >&2
terminal=0
[ ! -t 2 ] || terminal=1
{
	status=0
	"$go" build -v "$@" 2>&1 || status=$?
	echo "build.sh status $status"
} | STALE="$stale" awk -v terminal="$terminal" '
	BEGIN {
		n = split(ENVIRON["STALE"], lines, "\n")
		for (i = 1; i <= n; i++) { split(lines[i], f, " "); c[f[1]] = f[2]; total++ }
	}
	/^build.sh status / { status = $3; next }
	$0 in c {
		name = $0
		own = sub(/^github.com\/ctnas\/ctnas\//, "", name)
		text = sprintf("[%d/%d] %s%s", ++done, total, name, c[$0] > 0 ? " (C)" : "")
		if (terminal) { printf "\r\033[K%s", text > "/dev/stderr"; fflush() }
		else if (own) { print text > "/dev/stderr"; fflush() }
		next
	}
	{ if (terminal && done) printf "\r\033[K" > "/dev/stderr"; print > "/dev/stderr" }
	END { if (terminal && done) printf "\r\033[K" > "/dev/stderr"; exit status }'
