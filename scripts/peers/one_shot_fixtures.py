#!/usr/bin/env python3
"""Writes the parity fixture of one-shot training: what a plain PyTorch loop computes in float64.

  one_shot_fixtures.py            writes trainer/testdata/one_shot.json of the repository
  one_shot_fixtures.py --check    computes it again and compares, writes nothing

Numbers of tensors are not stored: see elastic_fixtures.py.

  torch      version
  side, batch, rate, momentum, decay (of all parameters), clip (limit of the gradient's norm)
  variables  [{name, shape, tag, scale, offset}] the start of the supernet of nasbench101-v4 of one_shot.py, by the names that ctnas has
  images     {shape: [count, side, side, channels], tag, scale, offset}, in the order NHWC
  updates    [{path, classes, loss, norm}]: in update u the images are those from u * batch on; the gradient's norm before it is clipped.
             Weights that the path lacks have a gradient of zero: momentum and decay move them
  after      {name: ...} of variables after all updates, as {"norm", "stride", "sample"} in fixtures.py
"""

import argparse
import json
import math
import os
import random
import sys

import torch
import torch.nn.functional as F
from torch import nn

import nets
import one_shot
from fixtures import ROOT, differences, digest, dump
from nn_fixtures import tensor

PATH = os.path.join(ROOT, "trainer", "testdata", "one_shot.json")
TAG = 9000


def named(net):
    """{name in ctnas: parameter}."""
    parts = {"stem": net.stem}
    for s, slots in enumerate(net.cells):
        at = f"stack{s + 1}.module1."
        for v, convolutions in enumerate(slots.convolutions):
            parts[f"{at}vertex{v + 1}.projection"] = slots.projections[v]
            parts.update({f"{at}vertex{v + 1}.conv{k}x{k}-bn-relu": part for k, part in convolutions.items()})
        parts[f"{at}output.projection"] = slots.projections[-1]
    out = {"classifier.weight": net.classifier.weight, "classifier.bias": net.classifier.bias}
    for name, part in parts.items():
        out.update({f"{name}.conv.weight": part.conv.weight, f"{name}.bn.weight": part.gamma, f"{name}.bn.bias": part.beta})
    return dict(sorted(out.items()))


def described(name, shape, tag):
    """A variable's numbers. Shifts near 1 keep activations away from where a rounding decides whether a gradient is 0."""
    if ".bn." in name:
        return tensor(shape, tag, 0.5, 1.0)
    return tensor(shape, tag, 0.25 if len(shape) == 1 else 2.0 ** round(math.log2(math.sqrt(6 / math.prod(shape[1:])))))


def fixture(batch=16, updates=12):
    out = {"torch": torch.__version__.split("+")[0], "side": one_shot.SIDE, "batch": batch, "rate": 0.05, "momentum": 0.9, "decay": 3e-4}
    out.update(clip=5, variables=[], updates=[])
    net = one_shot.Supernet().double()
    parameters = named(net)
    for name, p in parameters.items():
        values, numbers = described(name, p.shape, TAG + len(out["variables"]))
        p.data.copy_(values)
        p.grad = torch.zeros_like(p)
        out["variables"].append({"name": name, **numbers})
    images, out["images"] = tensor((batch * updates, one_shot.SIDE, one_shot.SIDE, 3), TAG + 999, 1.0)
    rng, cells = random.Random(TAG), sorted(one_shot.table()[0])
    optimizer = torch.optim.SGD(net.parameters(), out["rate"], momentum=out["momentum"], weight_decay=out["decay"])
    for part in images.permute(0, 3, 1, 2).split(batch):
        path, classes = rng.choice(cells), [rng.randrange(one_shot.CLASSES) for _ in range(batch)]
        optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(net(part, nets.cell_text(*path.split(":")[2:])), torch.tensor(classes))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), out["clip"])
        optimizer.step()
        out["updates"].append({"path": path, "classes": classes, "loss": float(f"{loss:.10g}"), "norm": float(f"{norm:.10g}")})
    out["after"] = {name: digest(p.detach()) for name, p in parameters.items()}
    return out


def main():
    p = argparse.ArgumentParser(description="writes the parity fixture of one-shot training; the format stands at the top of this file")
    p.add_argument("--check", action="store_true", help="compare with the file, write nothing")
    check = p.parse_args().check
    torch.set_num_threads(1)
    text = dump(fixture())
    if not check:
        with open(PATH, "w") as f:
            f.write(text)
        return
    with open(PATH) as f:
        found = differences(json.load(f), json.loads(text))
    for d in found[:5]:
        print(f"{PATH}: {d} differs", file=sys.stderr)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
