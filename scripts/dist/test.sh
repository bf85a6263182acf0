#!/bin/sh
# Tests what bundle.sh makes, over the fake driver whose kernels are the simulator's: `make test-gpu-fake` calls this. The fatbins hold nothing
# but how they begin, which is all that driver looks at.
set -eu
cd "$(dirname "$0")/../.."
work=$PWD/build/dist-test
driver=$(scripts/cuda/fake.sh kernels)
rm -rf "$work"
mkdir -p "$work/fatbins" "$work/bin"
git ls-files 'kernels/*.cu' | while read -r f; do printf '\120\355\125\272' >"$work/fatbins/$(basename "$f" .cu).fatbin"; done
scripts/dist/bundle.sh "$work/ctnas-gpu" "$work/fatbins"
printf '#!/bin/sh\necho fake\n' >"$work/bin/nvidia-smi" && chmod +x "$work/bin/nvidia-smi"
PATH=$work/bin:$PATH
export PATH

# want STATUS TEXT VARIABLE=VALUE... -- PART: run.sh ends so, prints the text and writes its files.
want() {
	status=$1 words=$2
	shift 2
	rm -rf "$work/out"
	code=0
	(cd / && env LD_LIBRARY_PATH="$driver" CTNAS_TEST_DEVICE= "$@" "$work/out") >"$work/said" 2>&1 || code=$?
	if [ "$code" != "$status" ] || ! grep -q -e "$words" "$work/said"; then
		echo "run.sh: $*: status $code, want $status and \"$words\":" && cat "$work/said" && exit 1
	fi
}
# in FILE PATTERN N: so many lines of a report match.
in_report() {
	n=$(grep -c -e "$2" "$work/out/$1" || true)
	[ "$n" = "$3" ] || { echo "$1: $n lines of \"$2\", want $3:" && cat "$work/out/$1" && exit 1; }
}
run=$work/ctnas-gpu/run.sh
some='kernels_optim\.TestClamp$|kernels_elementwise\.TestZero$'

want 0 'parity: everything passed' CTNAS_CASES="$some" "$run" parity
in_report parity.jsonl '"part":"parity","case":"kernels_.*"status":"passed","cases":[1-9]' 2
[ "$(find "$work/out" -type f | wc -l)" -le 8 ] || { echo 'more than 8 files' && exit 1; }
# That driver lacks the kernels of package cuda's own tests, so one step of this part fails.
want 1 'devices: FAILED' "$run" devices
in_report devices.jsonl '"part":"selftest","case":"kernels_sim.[A-Za-z]*","status":"passed"' "$("$work/ctnas-gpu/bin/gpucheck" list kernels_sim | wc -l)"
# A case that fails ends no other one.
want 1 'parity: FAILED' CTNAS_FAKE_CUDA=fail:cu_clamp CTNAS_CASES="$some" "$run" parity
in_report parity.jsonl '"case":"kernels_optim.TestClamp","status":"failed"' 1
in_report parity.jsonl '"status":"passed","cases"' 1
# Under another program, as compute-sanitizer is.
want 1 'compute-sanitizer is not installed' "$run" sanitizer
printf '#!/bin/sh\nwhile case $1 in --*) true ;; *) false ;; esac; do shift 2; done\nexec "$@"\n' >"$work/bin/compute-sanitizer"
chmod +x "$work/bin/compute-sanitizer"
want 0 'sanitizer: everything passed' CTNAS_CASES="$some" "$run" sanitizer
in_report sanitizer.jsonl '"part":"\(mem\|race\)check","case":"kernels_.*"status":"passed"' 4
rm "$work/bin/compute-sanitizer"
# Nothing that was not run has passed.
want 1 'no GPU that can be used' LD_LIBRARY_PATH= "$run" parity
want 1 'no GPU that can be used' CTNAS_FAKE_CUDA=nodevice "$run" devices
want 1 'no GPU that can be used' CTNAS_DEVICE=cuda:3 "$run" parity
want 1 'no case matches' CTNAS_CASES=absent "$run" parity
want 1 'not run' CTNAS_SECONDS=0 "$run" parity
want 1 'CTNAS_FATBINS=/nowhere' CTNAS_FATBINS=/nowhere CTNAS_CASES="$some" "$run" parity
want 1 'packed without nb101_run0.csv.gz' "$run" repeat
want 2 'usage: run.sh PART' "$run" everything
rm -rf "$work"
echo 'run.sh does what it says'
