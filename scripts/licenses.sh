#!/bin/sh
# Writes the licences of everything that is linked into ctnas to cmd/ctnas/THIRD_PARTY_LICENSES: Go's own and those of the modules, as they lie in the module
# cache. The file is a part of the program (`ctnas version --licenses`) and of every archive of it. With --check nothing is written; the exit code says whether
# the file is up to date.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
file=cmd/ctnas/THIRD_PARTY_LICENSES
new=$(mktemp)
trap 'rm -f "$new"' EXIT

section() { # name, folder
	found=
	for text in "$2"/LICENSE* "$2"/LICENCE* "$2"/COPYING* "$2"/NOTICE* "$2"/UNLICENSE* "$2"/PATENTS*; do
		[ -f "$text" ] || continue
		found=1
		printf '\n================ %s: %s\n\n' "$1" "$(basename "$text")" >>"$new"
		tr -d '\r' <"$text" >>"$new"
	done
	[ -n "$found" ] || { echo "$1 has no licence in $2" >&2; exit 1; }
}

echo 'Licences of what is linked into ctnas. Written by scripts/licenses.sh.' >"$new"
section "Go" "$("$go" env GOROOT)"
# Every build tag is on: what one of them links must be named.
tags=cuda,turbojpeg
list=$("$go" list -tags "$tags" -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}	{{.Dir}}{{end}}{{end}}' ./cmd/ctnas | sort -u)
echo "$list" | while IFS='	' read -r name dir; do
	section "$name" "$dir"
done
if [ "${1:-}" = --check ]; then
	cmp -s "$new" "$file" || { echo "$file is not up to date: run scripts/licenses.sh" >&2; exit 1; }
else
	cp "$new" "$file"
fi
