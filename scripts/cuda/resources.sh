#!/bin/sh
# Prints what each kernel takes on each architecture, from the logs of nvcc.sh (folder build/cuda/kernels): registers of a thread, static
# shared memory of a block, stack and spilled bytes of a thread. Fails if a kernel spills that kernels/spills.txt does not allow.
set -eu
cd "$(dirname "$0")/../.."
logs=${1:-build/cuda/kernels}
set -- "$logs"/*.log
if [ ! -f "$1" ]; then
	echo "no logs in $logs: run \`make gpu\` first" >&2
	exit 1
fi
awk '
FILENAME ~ /spills\.txt$/ {
	if ($0 ~ /^[ \t]*(#|$)/) next
	if (NF < 3 || $2 !~ /^[0-9]+$/) {
		printf "%s:%d: want KERNEL BYTES REASON\n", FILENAME, FNR
		bad = 1
		next
	}
	allowed[$1] = $2
	next
}
/Compiling entry function/ {
	split($0, part, "\047")
	kernel = part[2]
	arch = substr(part[4], 4)
	file = FILENAME
	sub(/.*\//, "", file)
	sub(/log$/, "cu", file)
	if (!((file, kernel) in seen)) {
		seen[file, kernel] = 1
		order[++n] = file SUBSEP kernel
	}
	if (!(arch in archs)) {
		archs[arch] = 1
		columns[++m] = arch
	}
}
/bytes spill stores/ {
	key = file SUBSEP kernel SUBSEP arch
	stack[key] += $1
	spill[key] += $5 + $9
}
/Used [0-9]+ registers/ {
	key = file SUBSEP kernel SUBSEP arch
	for (i = 1; i <= NF; i++) {
		if ($i ~ /^registers/) regs[key] = $(i - 1)
		if ($i ~ /^smem/) shared[key] = $(i - 2)
	}
}
END {
	printf "%-24s %-36s", "FILE", "KERNEL"
	for (j = 1; j <= m; j++) printf " %6s", "sm_" columns[j]
	print "  SHARED  STACK  SPILLS"
	for (i = 1; i <= n; i++) {
		split(order[i], part, SUBSEP)
		printf "%-24s %-36s", part[1], part[2]
		s = st = sp = 0
		for (j = 1; j <= m; j++) {
			key = order[i] SUBSEP columns[j]
			printf " %6s", key in regs ? regs[key] (spill[key] ? "*" : "") : "-"
			if (shared[key] > s) s = shared[key]
			if (stack[key] > st) st = stack[key]
			if (spill[key] > sp) sp = spill[key]
		}
		printf "  %6d  %5d  %6d\n", s, st, sp
		if (sp > allowed[part[2]] + 0) {
			over = over sprintf("%s: %s spills %d bytes, kernels/spills.txt allows %d\n", part[1], part[2], sp, allowed[part[2]])
		}
	}
	print "(registers of a thread by architecture, * where some spill; bytes of a block and of a thread, the most of all architectures)"
	printf "%s", over
	exit over != "" || bad
}' kernels/spills.txt "$@"
