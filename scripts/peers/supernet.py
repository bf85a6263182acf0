#!/usr/bin/env python3
"""Once-for-all's supernet of MobileNetV3 networks (the package ofa) beside ours.

  supernet.py                       writes trainer/nn/zoo/testdata/once_for_all_w*.json of the repository
  supernet.py --check               computes them again and compares, writes nothing
  supernet.py --files FOLDER        loads FOLDER/w*.pth and .safetensors into the package's supernet, both by its own
                                    load_state_dict, and writes w*.ofa.pth, its state_dict with the names of the released
                                    files; exits with 1 where a tensor is missing or differs from the file's

once_for_all_w0.35.json, once_for_all_w1.json, once_for_all_w1.2.json
  torch      version
  classes, parameters, tensors  of the supernet; tensors count PyTorch's counts of batches
  variables  MD5 of the lines "name shape" of all tensors but those counts, in their order; shape as 96x1x7x7
  tag        variable i has the values of the formula at the top of fixtures.py with the tag tag+i:
               scale 1/2 offset 1 for weights and variances of batch norms, scale 1/4 for their biases and means and for all
               biases, scale 1/4 for matrices, scale 2^-k for other weights, k the largest with 4^k <= inputs * kernel
  images     {shape: [batch, height, width, channels], tag, scale, offset}, in the order NHWC
  networks   [{depths, kernels, expansions, logits}] sub-networks and their logits, in float64, for the images, after their
             batch norms' statistics were calibrated on the same images
  orders     with width 0.35: of re_organize_middle_weights, in float64, for stages 0 and 1, a list a block:
               middle    new channel c is old channel middle[c] of the expanded channels
               squeezed  likewise within squeeze-and-excitation; empty where there is none

Needs requirements-zoo.txt.
"""

import argparse
import copy
import glob
import hashlib
import json
import os
import sys

import safetensors.torch
import torch
from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics

import elastic
from fixtures import ROOT, Numbers, differences, dump, formula, values

SLOTS, UNITS = 20, 5


def supernet(width, classes):
    return elastic.build(width, classes, dropout=0)


def variables(net):
    return [(name, t) for name, t in net.state_dict().items() if not name.endswith("num_batches_tracked")]


def scale_and_offset(name, shape):
    if name.endswith("_matrix"):
        return 0.25, 0
    if name.endswith("running_var") or name.endswith(".weight") and len(shape) == 1:
        return 0.5, 1
    if len(shape) == 1:
        return 0.25, 0
    inputs = 1
    for d in shape[1:]:
        inputs *= d
    k = 0
    while 4 ** (k + 1) <= inputs:
        k += 1
    return 2.0**-k, 0


def fill(net, tag):
    for i, (name, t) in enumerate(variables(net)):
        scale, offset = scale_and_offset(name, t.shape)
        t.copy_(torch.from_numpy(formula(t.numel(), tag + i, scale) + offset).reshape(t.shape))


def logits(net, depths, kernels, expansions, images):
    """Of a sub-network with statistics of the images, as the package evaluates it within the supernet, which changes."""
    net.set_active_subnet(ks=kernels, e=expansions, d=depths)
    set_running_statistics(net, [(images, None)])
    net.eval()
    return net(images)


def order(net, stage):
    """How re_organize_middle_weights moves channels: numbers that it moves with them. In float32 its sums of a later stage,
    from which 200,000 are taken, would be rounded to a 64th."""
    net = copy.deepcopy(net).double()
    for block in net.blocks[1:]:
        mean = block.conv.depth_conv.bn.bn.running_mean
        mean.copy_(torch.arange(len(mean)))
        if block.conv.use_se:
            bias = block.conv.depth_conv.se.fc.reduce.bias.data
            bias.copy_(torch.arange(len(bias)))
    net.re_organize_middle_weights(stage)
    return [
        {
            "middle": block.conv.depth_conv.bn.bn.running_mean.int().tolist(),
            "squeezed": block.conv.depth_conv.se.fc.reduce.bias.int().tolist() if block.conv.use_se else [],
        }
        for block in net.blocks[1:]
    ]


def fixture(width, batch, side, networks, tag):
    classes = 10
    net = supernet(width, classes)
    fill(net, tag)
    shape = [batch, side, side, 3]
    pixels = torch.from_numpy(formula(batch * side * side * 3, tag - 1, 2.0)).reshape(shape)
    lines = "".join(f"{name} {'x'.join(map(str, t.shape))}\n" for name, t in variables(net))
    document = {
        "torch": torch.__version__.split("+")[0],
        "classes": classes,
        "parameters": sum(p.numel() for p in net.parameters()),
        "tensors": len(net.state_dict()),
        "variables": hashlib.md5(lines.encode()).hexdigest(),
        "tag": tag,
        "images": {"shape": shape, "tag": tag - 1, "scale": 2.0, "offset": 0.0},
        "networks": {},
    }
    numbers, double = Numbers(tag - 2), copy.deepcopy(net).double()
    for k in range(networks):
        kernels = [[3, 5, 7][numbers.below(3)] for _ in range(SLOTS)]
        expansions = [[3, 4, 6][numbers.below(3)] for _ in range(SLOTS)]
        depths = [[2, 3, 4][numbers.below(3)] for _ in range(UNITS)]
        document["networks"][str(k)] = {
            "depths": "".join(map(str, depths)),
            "kernels": "".join(map(str, kernels)),
            "expansions": "".join(map(str, expansions)),
            "logits": values(logits(double, depths, kernels, expansions, pixels.permute(0, 3, 1, 2))),
        }
    if width < 1:
        document["orders"] = {str(stage): order(net, stage) for stage in (0, 1)}
    return document


def fixtures():
    return {
        "w0.35": fixture(0.35, 4, 64, 2, 5601),  # of its sums no two are equal
        "w1": fixture(1.0, 4, 64, 2, 5001),
        "w1.2": fixture(1.2, 4, 64, 2, 6001),
    }


def check_files(folder):
    wrong = 0
    for path in sorted(glob.glob(os.path.join(folder, "w*.pth"))):
        if path.endswith(".ofa.pth"):
            continue
        base = path.removesuffix(".pth")
        theirs = torch.load(path, weights_only=True, mmap=True)["state_dict"]
        net = supernet(float(os.path.basename(base)[1:]), theirs["classifier.linear.bias"].numel())
        for name, state in ("pth", theirs), ("safetensors", safetensors.torch.load_file(base + ".safetensors")):
            for _, t in variables(net):
                t.fill_(-1)
            net.load_state_dict(state)
            found = variables(net)
            missing = {n for n, _ in found} ^ set(state)
            other = [n for n, t in found if n in state and not torch.equal(t, state[n])]
            if missing or other:
                wrong += 1
                print(f"{base}.{name}: only on one side {sorted(missing)[:5]}, different {other[:5]}")
            print(f"{base}.{name}: {len(state)} tensors, {sum(t.numel() for t in state.values())} numbers")
        released = {
            name.replace(".conv.", ".mobile_inverted_conv.", 1) if name.startswith("blocks.") else name: t
            for name, t in net.state_dict().items()
        }
        torch.save({"state_dict": released}, base + ".ofa.pth")
    return wrong


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description="once-for-all's supernet beside ours; see the top of this file")
    p.add_argument("--check", action="store_true", help="compare with the files, write nothing")
    p.add_argument("--files", metavar="FOLDER", help="load our files of weights, write once-for-all's")
    args = p.parse_args()
    torch.set_num_threads(1)
    if args.files:
        sys.exit(check_files(args.files) > 0)
    bad = 0
    for name, document in fixtures().items():
        path = os.path.join(ROOT, "trainer", "nn", "zoo", "testdata", f"once_for_all_{name}.json")
        if args.check:
            with open(path) as f:
                found = differences(json.load(f), json.loads(dump(document)))
            for d in found[:5]:
                print(f"{path}: {d} differs", file=sys.stderr)
            bad += bool(found)
            continue
        with open(path, "w") as f:
            f.write(dump(document))
        print(path, os.path.getsize(path))
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
