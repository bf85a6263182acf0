#!/bin/sh
# Names every tool that a build needs and this machine lacks, with the command that installs it.
set -u
go=${GO:-go}
missing=0

need() { # tool, command that installs it
	command -v "$1" >/dev/null 2>&1 && return 0
	printf 'ctnas needs %s, which is not installed. Install it with:\n    %s\n' "$1" "$2" >&2
	missing=1
	return 1
}

# The checksum is the one that is published beside the archive: one that stands here would be of one architecture and one version.
archive=go1.26.0.linux-$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/').tar.gz
install_go="(cd /tmp && curl -fsSLO https://dl.google.com/go/$archive && echo \"\$(curl -fsSL https://dl.google.com/go/$archive.sha256)  $archive\" | sha256sum -c && sudo tar -C /usr/local -xzf $archive) && export PATH=/usr/local/go/bin:\$PATH"
need git 'sudo apt-get install git'
if need "$go" "$install_go"; then
	case $("$go" env GOVERSION) in
	# From 1.21 on, an older Go fetches the version that go.mod names by itself.
	go1.[0-9] | go1.[0-9].* | go1.1[0-9]* | go1.20* | '')
		printf 'ctnas needs Go 1.26; this is %s. Install it with:\n    %s\n' "$("$go" version)" "$install_go" >&2
		missing=1
		;;
	*)
		# Go compiles the C kernels with CC, or gcc where CC is not set. It may have words of its own: CC="ccache gcc".
		cc=${CC:-gcc}
		if need "${cc%% *}" 'sudo apt-get install gcc libc6-dev'; then
			if ! echo '#include <stdlib.h>' | $cc -E - >/dev/null 2>&1; then
				printf 'ctnas needs the C library headers. Install them with:\n    sudo apt-get install libc6-dev\n' >&2
				missing=1
			elif [ "$("$go" env CGO_ENABLED)" != 1 ]; then
				printf 'ctnas needs cgo, which is off (CGO_ENABLED=0). Turn it on with:\n    export CGO_ENABLED=1\n' >&2
				missing=1
			fi
		fi
		;;
	esac
fi
exit $missing
