#!/usr/bin/env python3
"""Writes the parity fixtures of elastic supernets in trainer/testdata: what the package `ofa` computes in float64.

  elastic_fixtures.py            writes trainer/testdata/ofa_*.json of the repository
  elastic_fixtures.py --check    computes them again and compares, writes nothing

Numbers of tensors are not stored: element i (row-major, from 0) of a tensor {"tag", "scale", "offset"} is offset + the
formula at the top of fixtures.py.

All files
  torch      version
  width, classes, side   of the supernet and its square images; there is no dropout
  images     {shape: [count, side, side, channels], tag, scale, offset}, in the order NHWC
  variables  [{name, shape, tag, scale, offset}] the supernet's start: parameters, matrices of kernels and running statistics, the
             names that `ofa` gives them, PyTorch's order of dimensions

ofa_w1.0.json, ofa_w1.2.json: sub-networks, as labels are made
  batches    statistics are made anew (set_running_statistics) on batches of that many images, all images together
  subnets    [{arch, logits}] of the first images, as many as "classified"

ofa_training.json: updates by several paths
  updates    [{paths, classes, losses}]: in update u the images are those from u * batch on; the first path learns the classes,
             smoothed by "smoothing", the others its softmax, and all gradients are summed
  batch, rate, momentum (Nesterov), decay (not of norms and biases), smoothing
  after      {name: ...} of variables after all updates, as {"norm", "stride", "sample"} in fixtures.py: a few of each kind
"""

import argparse
import json
import math
import os
import random
import sys

import torch

import elastic
from fixtures import ROOT, differences, digest, dump
from nn_fixtures import tensor


def described(name, shape, tag):
    """A variable's numbers. Shifts near 1 leave activations near their linear part, where a deep random network does not
    multiply what is rounded."""
    if name.endswith(("bn.weight", "bn.bias")):
        return tensor(shape, tag, 0.5, 1.0)
    if name.endswith("running_mean"):
        return tensor(shape, tag, 0.25)
    if name.endswith("running_var"):
        return tensor(shape, tag, 0.5, 1.0)
    if name.endswith("bias"):
        return tensor(shape, tag, 0.25)
    inputs = math.prod(shape[1:])  # a matrix's row, or the inputs of a convolution's output
    return tensor(shape, tag, 2.0 ** round(math.log2(math.sqrt(6 / inputs))))


def start(width, classes, first_tag):
    """The supernet, and the description of its variables."""
    net, variables = elastic.build(width, classes, dropout=0).double(), []
    state = net.state_dict()
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        filled, description = described(name, value.shape, first_tag + len(variables))
        value.copy_(filled)
        variables.append({"name": name, **description})
    net.load_state_dict(state)
    return net, variables


def sample(rng):
    """A random architecture in ctnas' short form; 0 where there is no block."""
    depths = [rng.choice((2, 3, 4)) for _ in range(5)]
    slots = [(rng.choice((3, 5, 7)), rng.choice((3, 4, 6))) if i % 4 < depths[i // 4] else (0, 0) for i in range(20)]
    return ":".join(["mobilenetv3", *("".join(map(str, part)) for part in (depths, *zip(*slots)))])


def document(width, classes, side, count, tag):
    net, variables = start(width, classes, tag)
    images, described_images = tensor((count, side, side, 3), tag + 999, 1.0)
    head = {"torch": torch.__version__.split("+")[0], "width": width, "classes": classes, "side": side, "images": described_images}
    return net, images.permute(0, 3, 1, 2), {**head, "variables": variables}


def rounded(t):
    return [float(f"{v:.8g}") for v in t.detach().reshape(-1).tolist()]


def labels(width, tag, batches=(32, 32), classified=16, subnets=20):
    net, images, out = document(width, 10, 64, sum(batches), tag)
    out.update(batches=batches, classified=classified, subnets=[])
    rng = random.Random(tag)
    for _ in range(subnets):
        arch = sample(rng)
        net.set_active_subnet(**elastic.parse(arch))
        part = net.get_active_subnet(preserve_weight=True).double().eval()
        elastic.set_running_statistics(part, [(batch, None) for batch in images.split(batches)])
        with torch.no_grad():
            out["subnets"].append({"arch": arch, "logits": rounded(part(images[:classified]))})
    return out


AFTER = (
    "first_conv.conv.weight",
    "blocks.1.conv.inverted_bottleneck.conv.conv.weight",
    "blocks.1.conv.inverted_bottleneck.bn.bn.running_var",
    "blocks.4.conv.depth_conv.conv.conv.weight",
    "blocks.5.conv.depth_conv.conv.5to3_matrix",
    "blocks.6.conv.depth_conv.conv.7to5_matrix",
    "blocks.6.conv.depth_conv.bn.bn.running_mean",
    "blocks.6.conv.depth_conv.se.fc.reduce.weight",
    "blocks.18.conv.depth_conv.bn.bn.bias",
    "blocks.18.conv.point_linear.conv.conv.weight",
    "feature_mix_layer.conv.weight",
    "classifier.linear.bias",
)


def training(tag=7000, batch=16, updates=5):
    net, images, out = document(1.0, 10, 64, batch * updates, tag)
    out.update(batch=batch, rate=0.002, momentum=0.9, decay=3e-5, smoothing=elastic.SMOOTHING, updates=[])
    rng, optimizer = random.Random(tag), elastic.optimizer(net, out["rate"], out["decay"])
    largest, smallest = (":".join(["mobilenetv3", str(d) * 5, str(k) * 20, str(e) * 20]) for d, k, e in ((4, 7, 6), (2, 3, 3)))
    net.train()
    for part in images.split(batch):
        paths, classes = [largest, smallest, sample(rng), sample(rng)], [rng.randrange(10) for _ in range(batch)]
        optimizer.zero_grad()
        losses = elastic.sandwich(net, list(map(elastic.parse, paths)), part, torch.tensor(classes))
        optimizer.step()
        out["updates"].append({"paths": paths, "classes": classes, "losses": rounded(torch.stack(losses))})
    state = net.state_dict()
    out["after"] = {name: digest(state[name]) for name in AFTER}
    return out


def main():
    p = argparse.ArgumentParser(description="writes the parity fixtures of elastic supernets; the format stands at the top of this file")
    p.add_argument("--check", action="store_true", help="compare with the files, write nothing")
    args = p.parse_args()
    torch.set_num_threads(1)
    bad = 0
    for name, make in ("training", training), ("w1.0", lambda: labels(1.0, 1000)), ("w1.2", lambda: labels(1.2, 4000)):
        fixture, path = make(), os.path.join(ROOT, "trainer", "testdata", f"ofa_{name}.json")
        if args.check:
            with open(path) as f:
                found = differences(json.load(f), json.loads(dump(fixture)))
            for d in found[:5]:
                print(f"{path}: {d} differs", file=sys.stderr)
            bad += bool(found)
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(dump(fixture))
        print(path, os.path.getsize(path))
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
