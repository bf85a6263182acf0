#!/bin/sh
# Searches NAS-Bench-101 with the 423 labels of the paper, in the table this machine has.
set -eu
cd "$(dirname "$0")/.."
table=$(scripts/data.sh)
if [ -z "$table" ]; then
	cat >&2 <<-'END'
		The demo searches NAS-Bench-101 and found no table of it. Get the official one (499 MB) with

		    bin/ctnas table get nasbench101

		and run `make demo` again, or set CTNAS_DATA to the folder that holds nasbench_only108.tfrecord.
	END
	exit 1
fi
out=runs/demo
n=1
while [ -e "$out" ]; do
	n=$((n + 1))
	out=runs/demo-$n
done
set -x
bin/ctnas search --space nasbench101 --labels "table:$table" --budget 423 --seed 1 --out "$out"
