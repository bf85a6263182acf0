#!/bin/sh
# The whole of CTNAS with nothing downloaded and nothing faked: trains cells on the generated images as labels, learns the comparator from them, searches the
# 2,532 cells with at most 5 vertices, then trains the pick and 10 random cells anew, 3 times each.
set -eu
cd "$(dirname "$0")/.."
. scripts/runs.sh
out=$(fresh_run demo)
set -x
bin/ctnas search --space nasbench101-v5 --labels 'train:shapes?recipe=shapes' --budget 36 --init 16 --per-round 10 --seed 1 --label-cache "$out/cache" --out "$out"
bin/ctnas retrain "$out" --seeds 3 --random 10
