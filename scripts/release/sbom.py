"""Prints what a Go program is made of as CycloneDX 1.6 (JSON), from what `go version -m` finds in it.

  sbom.py PROGRAM VERSION
"""

import base64
import json
import subprocess
import sys


def components(said):
    """The modules of the program: lines "dep PATH VERSION SUM", and "=> PATH VERSION SUM" where another one stands in for the last."""
    found = []
    for line in said.splitlines():
        words = line.split()
        if words[:1] == ["=>"]:
            found.pop()
        if words[:1] in (["dep"], ["=>"]):
            path, version, *digest = words[1:]
            one = {"type": "library", "name": path, "version": version, "purl": f"pkg:golang/{path}@{version}"}
            if digest:  # of the module's files, "h1:" and base64
                content = base64.b64decode(digest[0].removeprefix("h1:")).hex()
                one["properties"] = [{"name": "go:h1", "value": content}]
            found.append(one)
    return found


def main():
    program, version = sys.argv[1:]
    said = subprocess.run(["go", "version", "-m", program], capture_output=True, text=True, check=True).stdout
    go = said.split("\n", 1)[0].rsplit(" ", 1)[1].removeprefix("go")
    standard = {"type": "library", "name": "std", "version": go, "purl": f"pkg:golang/std@{go}"}
    json.dump({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"component": {"type": "application", "name": "ctnas", "version": version,
                                   "licenses": [{"license": {"id": "Apache-2.0"}}]}},
        "components": [standard, *components(said)],
    }, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
