# Sourced by the demos. fresh_run NAME prints a folder below runs/ that does not exist yet.
fresh_run() {
	out=runs/$1
	n=1
	while [ -e "$out" ]; do
		n=$((n + 1))
		out=runs/$1-$n
	done
	echo "$out"
}
