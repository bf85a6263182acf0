#!/bin/sh
# Builds the linters, sees that they find the mistakes that are planted for them, and runs them and gofmt over the repository's Go files.
set -eu
cd "$(dirname "$0")/../.."
go=${GO:-go}
bin=$PWD/build/bin/lint
status=0
(cd scripts/lint && "$go" build -o "$bin/" ./vet ./text && "$go" test ./vet)

# What was found in the planted files, as lines "LINE LINTER".
found() { sed -n -E 's/^.*planted\.(go|txt):([0-9]+):[0-9]+: ([A-Za-z0-9]+): .*/\2 \3/p' | sort -u; }
planted=scripts/lint/planted/planted
wanted=$(awk 'sub(/.*\/\/ want /, "") { for (i = 1; i <= NF; i++) print NR, $i }' $planted.go | sort -u)
if [ "$(cd scripts/lint && "$go" vet -vettool="$bin/vet" ./planted 2>&1 | found)" != "$wanted" ]; then
	echo "$planted.go: other mistakes were found than those that its comments name:" >&2
	(cd scripts/lint && "$go" vet -vettool="$bin/vet" ./planted) >&2 || true
	status=1
fi
if [ "$("$bin/text" $planted.txt | found)" != '1 misspell
2 silence
3 lll
5 lll' ]; then
	echo "$planted.txt: other mistakes were found than those that are there:" >&2
	"$bin/text" $planted.txt >&2 || true
	status=1
fi

"$go" vet -vettool="$bin/vet" ./... || status=1
# Files for other builds: without optional libraries, and with CUDA where its headers are.
"$go" vet -vettool="$bin/vet" -tags= ./trainer/data || status=1
if scripts/cuda/toolkit.sh find >/dev/null; then
	scripts/cuda/with.sh "$go" vet -vettool="$bin/vet" -tags cuda ./cuda ./kernels/fatbin ./internal/metrics/serve || status=1
fi
files=$(git ls-files --cached --others --exclude-standard '*.go')
echo "$files" | xargs "$bin/text" || status=1
unformatted=$(echo "$files" | xargs gofmt -s -l)
if [ -n "$unformatted" ]; then
	printf 'not as gofmt -s would have them:\n%s\n' "$unformatted" >&2
	status=1
fi
exit $status
