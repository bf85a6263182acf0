#!/bin/bash
# Checks the manifests of docs/examples/launch against the schemas of Kubernetes, strictly and offline, with kubernetes-validate from PyPI in build/kubernetes;
# that a mistake in them would be found; and the unit for systemd, where systemd-analyze is installed. Without Python or the package it says so and is skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=1.37.0
home=build/kubernetes
if [ ! -x "$home/bin/kubernetes-validate" ]; then
	mkdir -p build
	python3 -m venv "$home" && "$home/bin/pip" install --quiet "kubernetes-validate==$version" || {
		rm -rf "$home"
		echo "skipped: kubernetes-validate $version cannot be installed into $home"
		exit 0
	}
fi
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
for manifest in docs/examples/launch/*.yaml; do
	"$home/bin/kubernetes-validate" --strict "$manifest"
	for mistake in 's/parallelism:/paralelism:/' 's/onExitCodes:/onExitCode:/' 's/backoffLimit: 6/backoffLimit: six/'; do
		sed "$mistake" "$manifest" >"$new/bad.yaml"
		if "$home/bin/kubernetes-validate" --strict "$new/bad.yaml" >/dev/null 2>&1; then
			echo "FAILED: $manifest with $mistake is taken for a manifest"
			exit 1
		fi
	done
done
if command -v systemd-analyze >/dev/null; then
	sed 's,ExecStart=[^ ]*,ExecStart=/bin/true,' docs/examples/launch/ctnas-worker@.service >"$new/ctnas-worker@0.service"
	said=$(systemd-analyze verify "$new/ctnas-worker@0.service" 2>&1 || true)
	if grep ctnas-worker@0.service <<<"$said"; then
		echo "FAILED: the unit"
		exit 1
	fi
	echo "INFO docs/examples/launch/ctnas-worker@.service passed"
else
	echo "skipped: the unit; no systemd-analyze"
fi
