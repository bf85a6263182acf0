#!/bin/sh
# nvcc.sh LOG NVCC ARGUMENTS runs nvcc and keeps what it and ptxas say (registers, spills) in LOG; warnings and errors are shown.
set -u
log=$1
shift
"$@" >"$log" 2>&1
status=$?
if [ $status -ne 0 ]; then
	grep -v '^ptxas info' "$log" >&2
	rm -f "$log"
else
	grep -i 'warning' "$log" >&2
fi
exit $status
