#!/bin/sh
# Prints the NAS-Bench-101 file this machine has, or nothing: below CTNAS_TABLES, ../shared/data, or where `ctnas table get` puts it.
# Arguments name the files that will do; without any, one with validation accuracy is preferred.
set -u
[ $# -gt 0 ] || set -- nasbench_only108.tfrecord nasbench_full.tfrecord nas_bench.json nb101_run0.csv.gz
cd "$(dirname "$0")/.." || exit 1
for dir in "${CTNAS_TABLES:-}" ../shared/data "${XDG_CACHE_HOME:-$HOME/.cache}/ctnas"; do
	[ -n "$dir" ] || continue
	for name in "$@"; do
		for file in "$dir/$name" "$dir/nasbench101/$name"; do
			if [ -f "$file" ]; then
				echo "$file"
				exit 0
			fi
		done
	done
done
