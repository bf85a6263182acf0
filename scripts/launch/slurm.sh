#!/bin/bash
# Tries what `ctnas launch slurm` prints on a Slurm of its own: one controller and four nodes of two made-up GPUs each, on loopback, in a folder that is
# removed at the end. Wants Debian's slurmctld, slurmd, slurm-client and munge; without them it says so and is skipped. Takes at most five minutes, and
# leaves no process.
set -euo pipefail
cd "$(dirname "$0")/../.."
ctnas=$PWD/bin/ctnas
PATH=$PATH:/usr/sbin
for tool in slurmctld slurmd sbatch munged mungekey; do
	command -v "$tool" >/dev/null || {
		echo "skipped: no $tool; apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
		exit 0
	}
done
[ "$(id -u)" = 0 ] || { echo "skipped: not root, whom slurmd wants to be"; exit 0; }

dir=$(mktemp -d /tmp/ctnas-slurm.XXXXXX)
pids=()
finish() {
	code=$?
	trap - EXIT
	[ "$code" = 0 ] || tail -n 30 "$dir"/log/slurmctld.log "$dir"/*.log 2>/dev/null || true
	timeout 10 scancel --user=root 2>/dev/null || true
	for pid in "${pids[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done # a group each
	for _ in $(seq 50); do [ -z "$(pgrep -f "$dir")" ] && break; sleep 0.1; done
	for pid in $(pgrep -f "$dir"); do kill -KILL "$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$dir"
	exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM
mkdir -p "$dir"/{state,spool,log,run}
port=$((20000 + RANDOM % 20000))
host=$(hostname -s)
export SLURM_CONF=$dir/slurm.conf

cat >"$SLURM_CONF" <<END
ClusterName=ctnas
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.sock
SlurmctldPort=$port
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=1,bf_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=n[1-4] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 4))] CPUs=4 RealMemory=1000 Gres=gpu:2 State=UNKNOWN
PartitionName=low Nodes=n[1-4] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=high Nodes=n[1-4] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
END
for n in 1 2 3 4; do
	for g in 0 1; do mknod "$dir/run/gpu$n$g" c 1 3; done # gres hands out devices alone
	echo "NodeName=n$n Name=gpu Count=2 File=$dir/run/gpu$n[0-1]" >>"$dir/gres.conf"
done

start() { # a daemon in a group of its own
	setsid "$@" >>"$dir/log/out.log" 2>&1 &
	pids+=($!)
}
mungekey --create --keyfile="$dir/munge.key"
chmod 700 "$dir/run"
start munged --foreground --force --socket="$dir/run/munge.sock" --key-file="$dir/munge.key" --log-file="$dir/log/munged.log" \
	--pid-file="$dir/run/munged.pid" --seed-file="$dir/run/munged.seed" --num-threads=1
for _ in $(seq 100); do [ -S "$dir/run/munge.sock" ] && break; sleep 0.1; done
start slurmctld -D
for n in 1 2 3 4; do start slurmd -D -N "n$n"; done

until_is() { # what, seconds, command: until the command succeeds
	local what=$1 left=$(($2 * 5))
	shift 2
	until "$@"; do
		left=$((left - 1))
		[ "$left" -gt 0 ] || { echo "FAILED: $what"; squeue -a 2>&1 || true; exit 1; }
		sleep 0.2
	done
	echo "ok: $what"
}
idle() { [ "$(sinfo -h -p low -t idle -o %D 2>/dev/null)" = 4 ]; }
until_is "four nodes are up" 60 idle
state() { scontrol show job "$1" 2>/dev/null | grep -q "JobState=$2"; }
restarted() { scontrol show job "$1" | grep -q "Restarts=$2"; }
running() { state "$1" RUNNING; }
trains() { running "$1" && grep -q "updates: " "$dir/ctnas-train-$1.log" 2>/dev/null; }
cd "$dir"

# What a job sees: an array, a job a node, each with its GPUs and its words. A program of the test's own tells.
cat >"$dir/worker" <<'END'
#!/bin/bash
echo "$SLURM_ARRAY_TASK_ID on $SLURMD_NODENAME: GPUs $CUDA_VISIBLE_DEVICES: $*" >>workers.txt
END
chmod +x "$dir/worker"
"$ctnas" launch slurm --nodes 4 --gpus 2 --cpus 2 --program "$dir/worker" -- --join 'tls://x:1' --data 'imagenet=/a b' | sbatch --parsable >workers.job
four() { [ "$(sort -u workers.txt 2>/dev/null | grep -c ': GPUs 0,1: worker --join tls://x:1 --data imagenet=/a b$')" = 4 ]; }
until_is "four workers have two GPUs each, and their words" 60 four

# A farm: a search here, its workers there, of which two are told to end and one is killed. It ends as a search that trains by itself.
search="--space nasbench101-v5 --labels train:shapes?recipe=shapes&epochs=5&channels=4&resolution=8&recalibrate=1 --method random --budget 24 --init 24 --threads 1"
"$ctnas" search $search --label-cache "$dir/own" --out "$dir/alone" --quiet >/dev/null
start "$ctnas" search $search --label-cache "$dir/farmed" --out "$dir/farm" --farm 127.0.0.1:0 --farm-patience 5s
until_is "the search waits for workers" 60 test -s farm/farm/join.json
join=$(sed 's/.*"url":"\([^"]*\)".*/\1/' farm/farm/join.json)
workers=(--join "$join" --keys "$dir/farm/farm/keys" --threads 1 --workers 1 --work "$dir/work")
farm=$("$ctnas" launch slurm --nodes 2 --cpus 1 --name farmed --program "$ctnas" -- "${workers[@]}" | sbatch --parsable)
killed=$("$ctnas" launch slurm --cpus 1 --name third --program "$ctnas" -- "${workers[@]}" --name third | sbatch --parsable)
labels() { [ "$(find farmed -name "*.json" 2>/dev/null | wc -l)" -ge "$1" ]; }
until_is "workers train" 60 labels 4
until_is "all three" 60 running "$killed"
kill -KILL "$(pgrep -f -- "^$ctnas worker .*--name third")"
scancel --batch --signal=TERM "${farm}_1"
scancel --full --signal=TERM "${farm}_2" # to all of its processes
requeued() { [ "$(squeue -h -j "${farm}_1,${farm}_2" -t PENDING -o %i | wc -l)" = 2 ]; }
until_is "two workers are requeued" 60 requeued
until_is "the one that was killed is not" 60 state "$killed" FAILED
sleep 5 # nodes refuse a job that begins in the second in which it ended
for n in 1 2; do scontrol update JobId="${farm}_$n" StartTime=now; done # they would wait for a minute or two otherwise
until_is "the search ends" 120 test -s farm/report.html
gone() { [ -z "$(squeue -h -j "$farm" -t RUNNING 2>/dev/null)" ]; }
until_is "its workers end with it" 60 gone
cmp farm/result.json alone/result.json
cmp farm/ledger.jsonl alone/ledger.jsonl
echo "ok: in the same bytes as a search that trains by itself"

# A training beside one that is left alone: preempted by another job, and told to end as at the end of its time.
arch="nasbench101:4:110011:12 --data shapes --recipe shapes --channels 8 --epochs 100 --threads 1 --manifests off"
"$ctnas" train $arch --out "$dir/whole" --quiet >/dev/null
job=$("$ctnas" launch slurm --mode train --gpus 2 --cpus 4 --grace 60 --program "$ctnas" --option time=10 -- $arch --out "$dir/trained" | sbatch --parsable)
until_is "the training runs" 60 trains "$job"
high=$(sbatch --parsable -p high -N 4 --exclusive --wrap 'sleep 2' -o /dev/null)
until_is "another job preempts it, and it is requeued" 60 restarted "$job" 1
until_is "the other job has ended" 60 state "$high" COMPLETED
grep -q "A checkpoint is written" "ctnas-train-$job.log"
[ -s trained/checkpoint/latest ] && [ ! -e trained/result.json ]
scontrol update JobId="$job" StartTime=now # requeued jobs wait for a minute or two otherwise
until_is "it runs again" 60 trains "$job"
scancel --batch --signal=TERM "$job" # as --signal=B:TERM does
until_is "told to end, it asks for another turn" 60 restarted "$job" 2
[ "$(grep -c "A checkpoint is written" "ctnas-train-$job.log")" = 2 ]
[ ! -e trained/result.json ]
until_is "its turn can be had" 60 state "$job" PENDING
sleep 5 # nodes refuse a job that begins in the second in which it ended
scontrol update JobId="$job" StartTime=now
until_is "it ends" 120 state "$job" COMPLETED
cmp trained/weights.safetensors whole/weights.safetensors
cmp trained/result.json whole/result.json
echo "ok: in the same bytes as one that was left alone"

# Wrong use is not tried again.
bad=$("$ctnas" launch slurm --mode train --program "$ctnas" -- no-such-architecture --data shapes | sbatch --parsable)
until_is "wrong use fails" 60 state "$bad" FAILED
restarted "$bad" 0
