#!/bin/sh
# A supernet from its first step to a network by itself, with nothing downloaded: trains the weights that all networks of a small elastic MobileNetV3 space share, on
# the generated images (DATA=cifar10:DIR for CIFAR-10), labels 60 sub-networks with them, searches under a limit of multiply-adds, cuts the pick out, and fine-tunes it
# beside 10 random sub-networks under the same limit.
set -eu
cd "$(dirname "$0")/.."
. scripts/runs.sh
out=$(fresh_run demo-supernet)
data=${DATA:-shapes}
space=mobilenetv3@w0.35,r32,s16
set -x
bin/ctnas supernet train --space "$space" --data "$data" --recipe shapes --seed 1 --out "$out/supernet"
bin/ctnas search --space "$space" --labels "supernet:$out/supernet?calibrate=400" --budget 60 --init 24 --per-round 12 --max-madds 6M --seed 1 --label-cache "$out/cache" --out "$out/search"
bin/ctnas export "$out/search" --onnx "$out/pick.onnx"
bin/ctnas retrain "$out/search" --from-supernet --calibrate-images 400 --seeds 1 --random 10 --label-cache "$out/cache" \
	--labels "train:$data?recipe=shapes&epochs=1&batch=32&lr=0.01&warmup=0&label-smoothing=0.1&val-split=0.1&resolution=32"
