#!/usr/bin/env python3
"""Checks exported networks with onnx's checker and onnxruntime against our own logits.

  onnx_check.py [--program bin/ctnas] [--side N] [ARCH ...]     by default every network of the zoo
  onnx_check.py --space SPACE [--count 50] [--seed N]           random architectures of a space
  onnx_check.py --folder F                                      net.onnx, in.f32 and out.f32 of a folder

Each network is exported twice with the same random weights, with its batch norms and with them folded; both are checked and run on the two images that the
export writes, together and one by one (the batch is of any size). Exits with 1 where a logit differs by more than 1e-4, or than 1e-4 of the largest where
that is above 1. Needs requirements-zoo.txt.
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
import safetensors.numpy

TOLERANCE = 1e-4


def allowed(scale):
    return TOLERANCE * max(1, scale)


def run(session, images):
    return session.run(["logits"], {"images": images})[0]


def compare(folder):
    """The largest difference of a logit of net.onnx for in.f32 from out.f32, and the largest logit."""
    path = os.path.join(folder, "net.onnx")
    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = np.fromfile(os.path.join(folder, "in.f32"), "<f4").reshape(-1, *session.get_inputs()[0].shape[1:])
    ours = np.fromfile(os.path.join(folder, "out.f32"), "<f4").reshape(len(x), -1)
    assert np.isfinite(ours).all() and np.abs(ours).max() > 0, "logits without numbers"
    one_by_one = np.concatenate([run(session, image[None]) for image in x])
    scale = float(np.abs(ours).max())
    return max(float(np.abs(theirs - ours).max()) for theirs in (run(session, x), one_by_one)), scale


def randomize(path, seed):
    """Random batch norms. Shifts near 1 leave activations near their linear part, so that a deep random network does not multiply what is rounded."""
    random = np.random.default_rng(seed)
    tensors = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, "numpy") as f:
        metadata = f.metadata()  # says whose constants they want
    for name in list(tensors):
        if name.endswith(".running_mean"):
            norm = name.removesuffix(".running_mean")
            for part in (".weight", ".bias"):
                tensors[norm + part] = random.uniform(0.5, 1.5, tensors[name].shape).astype(np.float32)
    safetensors.numpy.save_file(tensors, path, metadata)


def check(program, arch, side, folder, seed):
    """compare for an architecture, the worse of both exports."""
    export = [program, "export", arch, "--resolution", str(side), "--seed", str(seed), "--quiet"]
    weights = os.path.join(folder, "weights.safetensors")
    subprocess.run([*export, "--safetensors", weights], check=True, stdout=subprocess.DEVNULL)
    randomize(weights, seed)
    results = []
    files = {flag: os.path.join(folder, name) for flag, name in (("onnx", "net.onnx"), ("check-input", "in.f32"), ("check-output", "out.f32"))}
    for fold in ([], ["--fold-bn"]):
        subprocess.run([*export, *fold, "--weights", weights, "--calibrate", *(word for flag, path in files.items() for word in ("--" + flag, path))], check=True, stdout=subprocess.DEVNULL)
        results.append(compare(folder))
    return max(results)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="bin/ctnas")
    parser.add_argument("--side", type=int, default=0, help="side of the images (0 = the published one)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--space", help="search space to draw architectures from")
    parser.add_argument("--count", type=int, default=50, help="how many are drawn")
    parser.add_argument("--folder")
    parser.add_argument("archs", nargs="*")
    args = parser.parse_args()
    if args.folder:
        worst, scale = compare(args.folder)
        print(f"{worst:.2g}, largest logit {scale:.3g}")
        sys.exit(worst > allowed(scale))
    archs = args.archs
    if args.space:
        sample = [args.program, "space", "sample", args.space, "-n", str(args.count), "--seed", str(args.seed), "--json"]
        archs = [row["arch"] for row in json.loads(subprocess.run(sample, check=True, capture_output=True).stdout)]
    elif not archs:
        rows = json.loads(subprocess.run([args.program, "zoo", "--json"], check=True, capture_output=True).stdout)
        archs = [row["name"] for row in rows if row["madds"]]
    failed, largest, share = 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for arch in archs:
            worst, scale = check(args.program, arch, args.side, folder, args.seed)
            failed += worst > allowed(scale)
            largest, share = max(largest, worst), max(share, worst / max(1, scale))
            print(f"{arch}: {worst:.2g}, largest logit {scale:.3g}{'' if worst <= allowed(scale) else '  TOO MUCH'}", flush=True)
    print(f"{len(archs) - failed} of {len(archs)} networks agree, the largest difference is {largest:.2g}, {share:.2g} where logits above 1 count as 1 (onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__})")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
