#!/bin/sh
# Searches NAS-Bench-101 with the 423 labels of the paper, in the table this machine has.
set -eu
cd "$(dirname "$0")/.."
. scripts/runs.sh
table=$(scripts/data.sh)
if [ -z "$table" ]; then
	cat >&2 <<-'END'
		This searches NAS-Bench-101 and found no table of it. Get the official one (499 MB) with

		    bin/ctnas table get nasbench101

		and run `make demo-table` again, or set CTNAS_TABLES to the folder that holds nasbench_only108.tfrecord.
	END
	exit 1
fi
out=$(fresh_run demo-table)
set -x
bin/ctnas search --space nasbench101 --labels "table:$table" --budget 423 --seed 1 --out "$out"
