#!/bin/bash
# Unpacks an image that make image wrote, by hand, and runs it: `ctnas version`, `ctnas devices` and a small training, none of them as root. Without root,
# who may chroot, it says so and is skipped.
set -euo pipefail
archive=$1
[ "$(id -u)" = 0 ] || { echo "skipped: $archive was not run: not root, who may chroot"; exit 0; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
tar -xf "$archive" -C "$dir" --one-top-level=layout
python3 - "$dir/layout" <<'END' >"$dir/layers"
import hashlib, json, sys
layout = sys.argv[1]

def blob(descriptor):
    kind, digest = descriptor["digest"].split(":")
    path = f"{layout}/blobs/{kind}/{digest}"
    data = open(path, "rb").read()
    assert hashlib.new(kind, data).hexdigest() == digest and len(data) == descriptor["size"], path
    return path, data

index = json.load(open(f"{layout}/index.json"))
manifest = json.loads(blob(index["manifests"][0])[1])
config = json.loads(blob(manifest["config"])[1])
assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json", manifest
assert config["config"]["Entrypoint"] == ["/usr/local/bin/ctnas"] and config["config"]["User"] == "65532:65532", config
for layer in manifest["layers"]:
    print(blob(layer)[0])
END
mkdir "$dir/root"
while read -r layer; do tar -xzf "$layer" -C "$dir/root"; done <"$dir/layers"
in_image() { env -i PATH=/usr/local/bin XDG_CACHE_HOME=/tmp/cache "$(command -v chroot)" --userspec=65532:65532 "$dir/root" /usr/local/bin/ctnas "$@"; }
in_image version
in_image train nasbench101:4:110011:12 --data shapes --recipe shapes --channels 4 --epochs 1 --batch 200 --out /tmp/run --quiet >/dev/null
[ -s "$dir/root/tmp/run/result.json" ]
in_image devices >/dev/null 2>&1
[ "$(stat -c %a "$dir/root/tmp")" = 1777 ] && [ -s "$dir/root/etc/ssl/certs/ca-certificates.crt" ]
echo "ok: $archive, $(du -h "$archive" | cut -f 1), $(wc -l <"$dir/layers") layers"
