"""Writes a wheel of the package in python/ with the program in it (PEP 427). It needs nothing but Python, and the same files make the
same bytes.

  wheel.py PROGRAM OUT [--version V]     PROGRAM is bin/ctnas; OUT a folder; prints the path of the wheel
"""

import argparse
import base64
import hashlib
import os
import platform
import re
import subprocess
import sys
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MACHINES = {62: "x86_64", 183: "aarch64"}  # of ELF's e_machine


def public(version):
    """The program's version as Python has it (PEP 440): v1.2.3-4-gabc is 1.2.3+4.gabc, anything else 0+LOCAL."""
    match = re.fullmatch(r"v?(\d+(?:\.\d+)*)(?:-(.+))?", version)
    if match is None:
        match = re.fullmatch("()(.*)", version)
    local = re.sub("[^A-Za-z0-9]+", ".", match[2] or "").strip(".")
    return (match[1] or "0") + (f"+{local}" if local else "")


def tag(program):
    """The platform that a program of Linux is of. Its libc is the lowest whose symbols it asks for (PEP 600)."""
    content = open(program, "rb").read()
    if content[:4] != b"\x7fELF":
        sys.exit(f"{program}: no program of Linux")
    machine = MACHINES.get(int.from_bytes(content[18:20], "little"))
    if machine is None:
        sys.exit(f"{program}: a processor that no wheel is made for")
    at, size, number = int.from_bytes(content[32:40], "little"), *(int.from_bytes(content[i : i + 2], "little") for i in (54, 56))
    interpreted = any(content[at + i * size : at + i * size + 4] == b"\3\0\0\0" for i in range(number))  # PT_INTERP
    if not interpreted:  # all libraries are in the program, which then runs beside any libc
        return f"manylinux_2_17_{machine}.musllinux_1_1_{machine}"
    versions = [(int(a), int(b)) for a, b in re.findall(rb"GLIBC_(\d+)\.(\d+)", content)]
    # manylinux also asks that no other library is linked than those of every system.
    known = {b"libc.so.6", b"libm.so.6", b"libpthread.so.0", b"libdl.so.2", b"librt.so.1", b"ld-linux-x86-64.so.2",
             b"ld-linux-aarch64.so.1", b"libresolv.so.2"}
    linked = set(re.findall(rb"\x00((?:lib|ld-linux-)[A-Za-z0-9_+-]+\.so(?:\.\d+)+)(?=\x00)", content))
    others = {name for name in linked - known if b"cuda" not in name and b"nvidia" not in name}
    if others:
        print(f"{program} is linked to {b', '.join(sorted(others)).decode()}: the wheel is for this machine alone", file=sys.stderr)
    if others or not versions:
        return f"linux_{machine}"
    return "manylinux_{}_{}_{}".format(*max(versions), machine)


def record(path, content):
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(content)}\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("program")
    p.add_argument("out")
    p.add_argument("--version", default="")
    args = p.parse_args()
    given = args.version or subprocess.run([args.program, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    version, where = public(given), tag(args.program)
    info = f"ctnas-{version}.dist-info"
    package = os.path.join(ROOT, "python", "ctnas")
    files = {}
    for name in sorted(os.listdir(package)):
        if name.endswith((".py", ".typed")):
            files[f"ctnas/{name}"] = open(os.path.join(package, name), "rb").read()
    files["ctnas/bin/ctnas"] = open(args.program, "rb").read()
    files[f"{info}/licenses/LICENSE"] = open(os.path.join(ROOT, "LICENSE"), "rb").read()
    files[f"{info}/licenses/THIRD_PARTY_LICENSES"] = open(os.path.join(ROOT, "cmd", "ctnas", "THIRD_PARTY_LICENSES"), "rb").read()
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.4\nName: ctnas\nVersion: {version}\nSummary: Neural architecture search by comparison\n"
        "License-Expression: Apache-2.0\nLicense-File: LICENSE\nLicense-File: THIRD_PARTY_LICENSES\nRequires-Python: >=3.10\n"
        "Provides-Extra: frames\nRequires-Dist: pandas; extra == 'frames'\nProvides-Extra: networks\n"
        "Requires-Dist: torch; extra == 'networks'\nDescription-Content-Type: text/markdown\n\n"
        + open(os.path.join(ROOT, "python", "README.md"), encoding="utf-8").read()
    ).encode()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: ctnas\nRoot-Is-Purelib: false\n".encode() + "".join(
        f"Tag: py3-none-{one}\n" for one in where.split(".")).encode()
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nctnas = ctnas.__main__:main\n"
    files[f"{info}/RECORD"] = ("".join(record(path, content) for path, content in files.items()) + f"{info}/RECORD,,\n").encode()
    os.makedirs(args.out, exist_ok=True)
    path = os.path.join(args.out, f"ctnas-{version}-py3-none-{where}.whl")
    with zipfile.ZipFile(path + ".part", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as wheel:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100755 if name == "ctnas/bin/ctnas" else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, content, compresslevel=9)
    os.replace(path + ".part", path)
    print(path)


if __name__ == "__main__":
    if platform.system() != "Linux":
        sys.exit("wheels are made on Linux")
    main()
