#!/bin/sh
# run.sh PART [OUT]: checks or measures ctnas on this machine's GPU, one part a call:
#
#   devices     what there is; the kernels of selftest.cu and the driver's interface              some seconds
#   parity      every test of kernels and of whole steps that takes a GPU                          minutes
#   sanitizer   compute-sanitizer on some of them                                                  minutes
#   repeat      a search twice, and once killed and resumed: the same bytes                        a minute
#   ceilings    the rates that nothing can exceed                                                  some seconds
#   profile     each launch of training steps and of the search's programs                         a minute
#   peers       steps beside PyTorch (eager)                                                       minutes
#
# It ends after CTNAS_SECONDS seconds (450) and writes into the folder OUT (results/) as it goes: PART.jsonl, a line for each case, and PART.txt,
# the output. A case that fails does not end the others. Without a GPU, without what a part needs, or when nothing ran, it fails.
#
# CTNAS_DEVICE chooses another GPU than cuda:0, CTNAS_CASES a part's cases: of parity by a regular expression, of profile by names.
# Needs an NVIDIA driver; sanitizer needs compute-sanitizer, peers python3 with PyTorch.
set -u
parts='devices parity sanitizer repeat ceilings profile peers'
part=${1:-}
case " $parts " in
*" $part "*) [ -n "$part" ] && [ $# -le 2 ] || part= ;;
*) part= ;;
esac
[ -n "$part" ] || { echo "usage: run.sh PART [OUT], PART one of $parts" >&2 && exit 2; }
out=${2:-results}
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
cd "$(dirname "$0")" || exit 2

begin=$(date +%s)
budget=${CTNAS_SECONDS:-450}
device=${CTNAS_DEVICE:-cuda:0}
case $device in cuda:*) ;; *) echo "run.sh: CTNAS_DEVICE=$device is no GPU" >&2 && exit 2 ;; esac
export CTNAS_FATBINS="${CTNAS_FATBINS:-$PWD/fatbins}" CTNAS_TEST_DEVICE="$device"
lines=$out/$part.jsonl
text=$out/$part.txt
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
: >"$work/table"
failed=0

left() { echo $((budget - $(date +%s) + begin)); }
# The end of a text as JSON.
quoted() { tail -c 4000 | tr '\t' ' ' | tr -d '\000-\010\013-\037' | sed 's/\\/\\\\/g; s/"/\\"/g' | awk '{ printf "%s%s", (NR > 1 ? "\\n" : ""), $0 }'; }
# note CASE STATUS SECONDS: a line of the report and of the table; $work/output is what the case said.
note() {
	[ "$2" = passed ] || failed=1
	said=$([ "$2" = passed ] || quoted <"$work/output")
	printf '{"part":"%s","case":"%s","status":"%s","seconds":%s,"output":"%s"}\n' "$part" "$1" "$2" "$3" "$said" >>"$lines"
	printf '%-40s %-12s %6s s\n' "$1" "$2" "$3" >>"$work/table"
	[ "$2" = passed ] || { echo "$1: $2" && tail -n 20 "$work/output"; }
}
# step CASE SECONDS COMMAND...: one case, which takes so long at most.
step() {
	name=$1 most=$2
	shift 2
	[ "$most" -le "$(left)" ] || most=$(left)
	: >"$work/output"
	if [ "$most" -le 0 ]; then
		note "$name" 'not run' 0
		return 1
	fi
	from=$(date +%s)
	timeout -k 5 "$most" "$@" >"$work/output" 2>&1
	code=$?
	{ echo "== $name: $*" && tail -c 1000000 "$work/output"; } >>"$text"
	status=passed
	[ $code = 0 ] || status=failed
	case $code in 124 | 137) status='out of time' ;; esac
	note "$name" "$status" $(($(date +%s) - from))
	[ $code = 0 ]
}
# missing CASE WHY: what cannot be done here has not passed.
missing() {
	echo "$2" >"$work/output"
	note "$1" 'left out' 0
}
# check PART-OF-THE-REPORT MOST ARGUMENTS...: cases of gpucheck, which reports each itself.
check() {
	name=$1 most=$2
	shift 2
	[ "$most" -le "$(left)" ] || most=$(left)
	if [ "$most" -le 0 ]; then
		: >"$work/output" && note "$name" 'not run' 0
		return
	fi
	bin/gpucheck run -part "$name" -budget "${most}s" -report "$lines" "$@" >"$work/output" 2>&1
	code=$?
	tail -c 4000000 "$work/output" >>"$text"
	[ $code = 0 ] || failed=1
	tail -n 60 "$work/output" >>"$work/table"
}

devices() {
	step 'nvidia-smi' 30 nvidia-smi
	step 'program' 30 bin/ctnas version
	step 'package cuda' 120 sh -c 'cd cases/cuda && ../../bin/cudatest -test.v'
	check 'selftest' 120 '^kernels_sim\.'
}

parity() { check parity "$(left)" "${CTNAS_CASES:-^(kernels_|gcn|search_|trainer)}"; }

# The tool is slow: short cases of one test a kind of kernel. Shared memory and its barriers are racecheck's.
sanitizer() {
	tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
	[ -n "$tool" ] || { missing sanitizer 'compute-sanitizer is not installed' && return; }
	cases=${CTNAS_CASES:-'^kernels_(conv|depthwise|gemm|graph|loss|norm|optim|pool|rnn)\.'}
	check memcheck $(($(left) / 2)) -short -each 150s -parallel 4 -wrap "$tool --tool memcheck --error-exitcode 9" "$cases"
	check racecheck "$(left)" -short -each 150s -parallel 4 -wrap "$tool --tool racecheck --error-exitcode 9" "$cases"
}

same() { cmp "$1/result.json" "$2/result.json" && cmp "$1/ledger.jsonl" "$2/ledger.jsonl"; }

# The same search twice, and once killed when its first checkpoint stands, and resumed.
repeat() {
	[ -f nb101_run0.csv.gz ] || { missing repeat 'this archive was packed without nb101_run0.csv.gz' && return; }
	step 'convert the table' 120 bin/ctnas table convert nb101_run0.csv.gz -o "$work/nb101.ctt" || return
	search="bin/ctnas search --quiet --space nasbench101 --labels table:$work/nb101.ctt --budget 150 --seed 1 --device $device"
	# shellcheck disable=SC2086 # words
	step 'search' 120 $search --out "$work/a" || return
	# shellcheck disable=SC2086
	step 'search again' 120 $search --out "$work/b"
	step 'the same result' 10 cmp "$work/a/result.json" "$work/b/result.json"
	step 'the same labels' 10 cmp "$work/a/ledger.jsonl" "$work/b/ledger.jsonl"
	# shellcheck disable=SC2086
	$search --out "$work/c" >"$work/output" 2>&1 &
	pid=$!
	while kill -0 $pid 2>/dev/null && [ -z "$(ls "$work/c/checkpoint" 2>/dev/null)" ] && [ "$(left)" -gt 0 ]; do sleep 0.02; done
	if ! kill -KILL $pid 2>/dev/null || [ -f "$work/c/result.json" ] || [ ! -d "$work/c/checkpoint" ]; then
		note 'search, killed at a checkpoint' failed 0 # it had ended before, or there was none
		return
	fi
	wait $pid 2>/dev/null
	step 'search, killed and resumed' 120 bin/ctnas search --quiet --resume "$work/c" --device "$device"
	step 'the same result after a resume' 10 cmp "$work/a/result.json" "$work/c/result.json"
	step 'the same labels after a resume' 10 cmp "$work/a/ledger.jsonl" "$work/c/ledger.jsonl"
}

ceilings() {
	for precision in fp32 bf16; do
		# Every pass begins with them: this one is of no case.
		step "ceilings $precision" 120 bin/ctnas bench --device "$device" --precision $precision --filter '^$' --json || continue
		{ tr -d '\n' <"$work/output" && echo; } | tee -a "$lines" >>"$work/table"
	done
}

profile() {
	bin/ctnas bench --help 2>&1 | grep -q -e --profile || { missing profile 'this ctnas bench has no --profile' && return; }
	for name in ${CTNAS_CASES:-train_mobilenetv3_large train_nb101_best nac_step_released_512 controller_iteration}; do
		step "profile $name" 120 bin/ctnas bench --device "$device" --precision bf16 --profile "$name" --lines "$lines" &&
			head -n 30 "$work/output" | cut -c 1-120 >>"$work/table"
	done
}

peers() {
	python3 -c 'import torch; assert torch.cuda.is_available()' 2>"$work/output" || { missing peers 'python3 has no PyTorch with CUDA' && return; }
	for precision in bf16 fp32; do
		case $precision in bf16) rows=train_mobilenetv3_large,train_nb101_best,nac_step_released_512 ;; *) rows=nac_step_released_512,encode_space_released,controller_iteration ;; esac
		step "beside PyTorch, $precision" "$(left)" python3 scripts/peers/run.py --python python3 --device "$device" --precision $precision --only "${CTNAS_CASES:-$rows}" \
			--budget $(($(left) - 20)) --out "$out/peers-$precision.json" $([ ! -f nb101_run0.csv.gz ] || echo --data nb101_run0.csv.gz)
		tail -n 20 "$work/output" >>"$work/table"
	done
}

echo "ctnas on $(uname -n), $(date -u), $part on $device" | tee -a "$text"
step 'GPU' 60 sh -c 'bin/ctnas devices && bin/ctnas devices --json | grep -q "\"name\": *\"$0\""' "$device" || { echo "no GPU that can be used: nothing was done" && exit 1; }
bin/ctnas devices
$part
echo
cat "$work/table"
[ $failed = 0 ] && echo "$part: everything passed, $(($(date +%s) - begin)) s" || echo "$part: FAILED, $(($(date +%s) - begin)) s"
exit $failed
