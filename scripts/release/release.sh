#!/bin/bash
# What a release has, in build/release: an archive a processor with the program, pages of man and completions, a package for Debian, a wheel for
# Python, an image of containers, a list of what is linked (CycloneDX) and the checksums of all. The version is that of git's tags. What this
# machine cannot make is named and left out: arm64 wants aarch64-linux-gnu-gcc, the package dpkg-deb.
set -euo pipefail
cd "$(dirname "$0")/../.."
go=${GO:-go}
version=$(git describe --tags --match 'v[0-9]*' 2>/dev/null || echo "v0.0.0-$(git rev-parse --short HEAD 2>/dev/null || echo unknown)")
out=$PWD/build/release
rm -rf "$out"
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
commit=$(git log -1 --format=%ct 2>/dev/null || echo 315532800) # so that the same commit gives the same archive

# The C library is linked in, so that a program runs on every Linux; names are then looked up by Go, for which these tags are.
program() { # architecture, compiler
	GOFLAGS=-trimpath GOOS=linux GOARCH=$1 CGO_ENABLED=1 CC=$2 GO=$go scripts/build.sh -tags netgo,osusergo -buildvcs=auto \
		-ldflags='-s -w -linkmode external -extldflags -static' -o "$work/$1/ctnas" ./cmd/ctnas
}

for arch in amd64 arm64; do
	compiler=gcc
	if [ "$arch" != "$("$go" env GOHOSTARCH)" ]; then
		compiler=$([ $arch = arm64 ] && echo aarch64-linux-gnu-gcc || echo x86_64-linux-gnu-gcc)
		if ! command -v "$compiler" >/dev/null; then
			echo "left out: $arch, for there is no $compiler (sudo apt-get install gcc-aarch64-linux-gnu)"
			continue
		fi
	fi
	program $arch "$compiler"
done
own=$work/$("$go" env GOHOSTARCH)/ctnas
"$own" --version

"$own" man "$work/share/man/man1"
mkdir -p "$work/share/bash-completion/completions" "$work/share/zsh/vendor-completions" "$work/share/fish/vendor_completions.d"
"$own" completion bash >"$work/share/bash-completion/completions/ctnas"
"$own" completion zsh >"$work/share/zsh/vendor-completions/_ctnas"
"$own" completion fish >"$work/share/fish/vendor_completions.d/ctnas.fish"

for arch in amd64 arm64; do
	[ -x "$work/$arch/ctnas" ] || continue
	name=ctnas-${version#v}-linux-$arch
	mkdir -p "$work/$name/bin"
	cp "$work/$arch/ctnas" "$work/$name/bin/"
	cp -r "$work/share" "$work/$name/"
	cp README.md CHANGELOG.md CITATION.cff LICENSE cmd/ctnas/THIRD_PARTY_LICENSES "$work/$name/"
	tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$commit" -cf - "$name" | gzip -9n >"$out/$name.tar.gz"
	if ! command -v dpkg-deb >/dev/null; then
		echo "left out: the package for Debian, for there is no dpkg-deb (sudo apt-get install dpkg)"
		continue
	fi
	deb=$work/deb-$arch
	mkdir -p "$deb/DEBIAN" "$deb/usr/bin" "$deb/usr/share/doc/ctnas"
	cp "$work/$arch/ctnas" "$deb/usr/bin/"
	cp -r "$work/share/." "$deb/usr/share/"
	gzip -9n "$deb"/usr/share/man/man1/*
	cat LICENSE cmd/ctnas/THIRD_PARTY_LICENSES >"$deb/usr/share/doc/ctnas/copyright"
	printf 'Package: ctnas\nVersion: %s\nArchitecture: %s\nMaintainer: The ctnas authors <https://github.com/ctnas/ctnas/issues>\nSection: science\nPriority: optional\nDescription: Neural architecture search by comparison\n It asks for the accuracy of a few hundred architectures, learns from them which\n of two is the better one, and searches for one that beats ever better baselines.\n' \
		"${version#v}" $arch >"$deb/DEBIAN/control"
	SOURCE_DATE_EPOCH=$commit dpkg-deb --root-owner-group -Zxz --build "$deb" "$out/ctnas_${version#v}_$arch.deb" >/dev/null
done

python3 scripts/python/wheel.py "$own" "$out" --version "$version" >/dev/null
python3 scripts/release/sbom.py "$own" "${version#v}" >"$out/ctnas-${version#v}.cdx.json"
"$go" run ./scripts/image -program "$own" -version "$("$own" --version)" -out "$out/ctnas-${version#v}-image.tar"
(cd "$out" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" . && sha256sum --quiet -c SHA256SUMS)
ls -l "$out"
