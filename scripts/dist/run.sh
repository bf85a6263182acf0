#!/bin/sh
# Checks and measures ctnas on this machine's GPU and leaves everything in results/ and results.txt. Needs an NVIDIA driver; the comparison also
# needs python3 with PyTorch, the sanitizer CUDA's compute-sanitizer; what is missing is named and left out.
#
#   ./run.sh                 all of it, some thirty minutes
#   ./run.sh parity          one part: parity, sanitizer, repeat, bench, peers
set -u
cd "$(dirname "$0")" || exit 1
parts=${*:-parity sanitizer repeat bench peers}
device=${CTNAS_DEVICE:-cuda:0}
table=nb101_run0.csv.gz
mkdir -p results
failed=0

log() { printf '%s\n' "$*" | tee -a results.txt; }
part() { # title, command ...: its output goes to results.txt, whether it failed too
	title=$1
	shift
	log "== $title"
	begin=$(date +%s)
	"$@" >results/last.txt 2>&1
	status=$?
	cat results/last.txt >>results.txt
	[ $status = 0 ] || { failed=1 && tail -n 20 results/last.txt; }
	log "-- $title: $([ $status = 0 ] && echo passed || echo "FAILED ($status)"), $(($(date +%s) - begin)) s"
}

parity() {
	for t in tests/*; do
		part "tests of $(basename "$t") on $device" sh -c "cd $t && CTNAS_TEST_DEVICE=$device ./test -test.count 1 -test.timeout 9m"
	done
}

sanitizer() {
	tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
	[ -n "$tool" ] || { log "== sanitizer: compute-sanitizer is not installed, left out" && return; }
	for check in memcheck racecheck synccheck initcheck; do
		for t in kernels_gemm kernels_graph kernels_loss kernels_optim kernels_rnn kernels_conv kernels_depthwise kernels_elementwise kernels_norm kernels_pool; do
			part "$check on $t" sh -c "cd tests/$t && CTNAS_TEST_DEVICE=$device timeout 120 $tool --tool $check --error-exitcode 9 ./test -test.short -test.count 1"
		done
	done
}

# The same search twice, and once killed and resumed: the same bytes.
repeat() {
	[ -f $table ] || { log "== repeat: $table is not here, left out" && return; }
	part 'convert the table' bin/ctnas table convert $table -o results/nb101.ctt
	search="bin/ctnas search --quiet --space nasbench101 --labels table:results/nb101.ctt --budget 150 --seed 1 --device $device"
	rm -rf results/a results/b results/c
	part 'search' $search --out results/a
	part 'the same search' $search --out results/b
	part 'the same result' sh -c 'cmp results/a/result.json results/b/result.json && cmp results/a/ledger.jsonl results/b/ledger.jsonl'
	log '== the same search, killed'
	timeout -s KILL 3 $search --out results/c >>results.txt 2>&1
	part 'resumed' bin/ctnas search --quiet --resume results/c --device "$device"
	part 'the same result after a resume' sh -c 'cmp results/a/result.json results/c/result.json && cmp results/a/ledger.jsonl results/c/ledger.jsonl'
	for on in cpu "$device"; do
		part "ranking of the space, 423 labels, on $on" sh -c "bin/ctnas rank --space nasbench101 --labels table:results/nb101.ctt --train 423 --seeds 2 --device $on --json | tee results/rank-${on%%:*}.json"
	done
}

bench() {
	labels=''
	[ ! -f results/nb101.ctt ] || labels='--labels table:results/nb101.ctt'
	for precision in fp32 bf16; do
		part "speed, $precision" bin/ctnas bench --device "$device" --precision $precision $labels
		part "speed, $precision, as JSON" sh -c "bin/ctnas bench --device $device --precision $precision $labels --json >results/bench-$precision.json"
	done
	[ -z "$labels" ] || part 'the released search' bin/ctnas bench --device "$device" $labels --filter search_released_schedule
}

peers() {
	python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null || { log '== peers: python3 has no PyTorch with CUDA, left out' && return; }
	for precision in fp32 bf16; do
		part "beside PyTorch, $precision" python3 scripts/peers/run.py --python python3 --device "$device" --precision $precision \
			--out "results/peers-$precision.json" $([ ! -f $table ] || echo "--data $table")
	done
}

: >results.txt
log "ctnas on $(hostname), $(date -u)"
nvidia-smi >>results.txt 2>&1
bin/ctnas version | tee -a results.txt
bin/ctnas devices | tee -a results.txt
for p in $parts; do
	case $p in
	parity | sanitizer | repeat | bench | peers) $p ;;
	*) echo "run.sh: unknown part $p" >&2 && exit 2 ;;
	esac
done
log "$([ $failed = 0 ] && echo 'everything passed' || echo 'something FAILED: see above')"
exit $failed
