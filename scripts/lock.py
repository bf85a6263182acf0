#!/usr/bin/env python3
"""Writes FILE.txt for every FILE.in: each package that pip would install for it on this machine (Linux, x86-64), with its version and the SHA-256 of each of its
files on the index, for pip install --require-hashes. Standard library and pip only.

    scripts/lock.py scripts/peers/requirements.in scripts/peers/requirements-zoo.in scripts/cuda/*.in
"""
import json, os, re, subprocess, sys, tempfile, urllib.request

INDEX = "https://pypi.org/simple"


def resolve(path):
    """The packages that pip chooses: (name as the index has it, version)."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        subprocess.run([sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:",
                        "--report", report, "-r", path], check=True)
        with open(report) as f:
            return sorted((re.sub("[-_.]+", "-", i["metadata"]["name"]).lower(), i["metadata"]["version"], i["download_info"]) for i in json.load(f)["install"])


def hashes(name, version):
    """The SHA-256 of all files of a version, but of those that were withdrawn."""
    request = urllib.request.Request(f"{INDEX}/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request) as answer:
        files = json.load(answer)["files"]
    stem = re.compile(re.escape(name).replace(r"\-", "[-_.]+") + "-" + re.escape(version) + r"(-.*\.whl|\.tar\.gz|\.zip)$", re.IGNORECASE)
    return sorted({f["hashes"]["sha256"] for f in files if stem.match(f["filename"]) and not f.get("yanked")})


for path in sys.argv[1:]:
    with open(os.path.splitext(path)[0] + ".txt", "w") as out:
        print(f"# Written by scripts/lock.py from {os.path.basename(path)}: what it needs on Linux (x86-64), for pip install --require-hashes.", file=out)
        for name, version, download in resolve(path):
            known = hashes(name, version)
            if download["archive_info"]["hashes"]["sha256"] not in known:
                sys.exit(f"{name} {version}: the index does not list the file that pip chose")
            print(" \\\n".join([f"{name}=={version}"] + [f"    --hash=sha256:{h}" for h in known]), file=out)
