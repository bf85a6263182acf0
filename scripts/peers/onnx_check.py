#!/usr/bin/env python3
"""Checks exported networks with onnx's checker and onnxruntime against our own logits.

  onnx_check.py [--program bin/ctnas] [--side N] [ARCH ...]     by default every network of the zoo

Each network is exported twice from a random start, with its batch norms and with them folded; both are checked and run on the two images that the export
writes, together and one by one (the batch is of any size). Exits with 1 where a logit differs by more than 1e-4 of the largest. Needs requirements-zoo.txt.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

TOLERANCE = 1e-4


def run(session, images):
    return session.run(["logits"], {"images": images})[0]


def check(program, arch, side, folder, seed):
    """The largest difference of a logit, as a share of the largest logit."""
    path, images, logits = (os.path.join(folder, name) for name in ("net.onnx", "in.f32", "out.f32"))
    worst = 0.0
    for fold in ([], ["--fold-bn"]):
        subprocess.run([program, "export", arch, "--onnx", path, "--check-input", images, "--check-output", logits, "--resolution", str(side),
                        "--seed", str(seed), "--log-level", "warn", *fold], check=True)
        onnx.checker.check_model(path, full_check=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        shape = session.get_inputs()[0].shape
        x = np.fromfile(images, "<f4").reshape(2, *shape[1:])
        ours = np.fromfile(logits, "<f4").reshape(2, -1)
        assert np.isfinite(ours).all() and np.abs(ours).max() > 0, "logits without numbers"
        together = run(session, x)
        one_by_one = np.concatenate([run(session, x[i:i + 1]) for i in range(2)])
        scale = np.abs(ours).max()
        worst = max(worst, *(float(np.abs(theirs - ours).max() / scale) for theirs in (together, one_by_one)))
    return worst, float(scale)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="bin/ctnas")
    parser.add_argument("--side", type=int, default=0, help="side of the images (0 = the published one)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("archs", nargs="*")
    args = parser.parse_args()
    archs = args.archs
    if not archs:
        rows = json.loads(subprocess.run([args.program, "zoo", "--json"], check=True, capture_output=True).stdout)
        archs = [row["name"] for row in rows if row["madds"]]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for arch in archs:
            worst, scale = check(args.program, arch, args.side, folder, args.seed)
            failed += worst > TOLERANCE
            print(f"{arch}: {worst:.2g} of a largest logit of {scale:.3g}{'' if worst <= TOLERANCE else '  TOO MUCH'}", flush=True)
    print(f"{len(archs) - failed} of {len(archs)} networks agree (onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__})")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
