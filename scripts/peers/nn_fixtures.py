#!/usr/bin/env python3
"""Writes the parity fixtures of trainer/nn: what PyTorch computes, in float64, from given weights and images.

  nn_fixtures.py            writes trainer/nn/testdata/torch_*.json of the repository
  nn_fixtures.py --check    computes them again and compares, writes nothing

Numbers of tensors are not stored: element i (row-major, from 0) of a tensor {"tag", "scale", "offset"} is offset + the
formula at the top of fixtures.py.

torch_nasbench101.json (a cell network), torch_mobile.json (inverted residual blocks), torch_operations.json (the other operations)
  torch      version
  matrix, ops  of the cell, where there is one
  images     {shape: [batch, height, width, channels], tag, scale, offset}, in the order NHWC
  classes, smoothing  the loss is the label-smoothed cross-entropy, plus 0.4 times that of an auxiliary head where there is one
  partners, mix  second classes and the weight of the first ones, where images are mixed
  teacher    {shape, tag, scale, offset}, distill, temperature: where there is distillation
  variables  [{name, shape, tag, scale, offset}] parameters and running statistics, PyTorch's names and order of dimensions
  train      logits, loss; grads {name: ...} of every parameter, images_grad (NHWC); running {name: ...}: statistics after the pass
  eval       logits, loss, grads, images_grad of an evaluation with those statistics
A gradient or statistic is given as {"norm", "stride", "sample"} as in fixtures.py.
"""

import argparse
import json
import os
import sys

import torch
import torch.nn.functional as F

from fixtures import ROOT, differences, digest, dump, formula, values


def tensor(shape, tag, scale, offset=0.0):
    """A tensor by the formula, and its description."""
    count = int(torch.tensor(shape).prod())
    description = {"shape": list(shape), "tag": tag, "scale": scale, "offset": offset}
    return torch.from_numpy(formula(count, tag, scale) + offset).reshape(shape), description


def hard_sigmoid(x):
    """F.hardsigmoid, whose own derivative in float64 is 3e-8 off: PyTorch takes 1/6 in float32."""
    return F.relu6(x + 3) / 6


def hard_swish(x):
    return x * hard_sigmoid(x)


class Net:
    """Layers that make their variables when they first run and find them again later."""

    def __init__(self, tag, eps=1e-5, momentum=0.1):
        self.tag, self.eps, self.momentum = tag, eps, momentum
        self.values, self.described, self.train = {}, [], True

    def variable(self, name, shape, scale, offset=0.0, trains=True):
        if name not in self.values:
            value, description = tensor(shape, self.tag + len(self.values), scale, offset)
            self.values[name] = value.requires_grad_(trains)
            self.described.append({"name": name, **description})
        return self.values[name]

    def conv(self, name, x, out, k, stride=1, groups=1, dilation=1, bias=False, padding=None):
        kh, kw = k if isinstance(k, tuple) else (k, k)
        w = self.variable(name + ".weight", (out, x.shape[1] // groups, kh, kw), 0.5)
        b = self.variable(name + ".bias", (out,), 0.25) if bias else None
        padding = (dilation * (kh - 1) // 2, dilation * (kw - 1) // 2) if padding is None else padding
        return F.conv2d(x, w, b, stride, padding, dilation, groups)

    def bn(self, name, x, frozen=False):
        c = x.shape[1]
        scale, shift = self.variable(name + ".weight", (c,), 0.5, 1.0), self.variable(name + ".bias", (c,), 0.5)
        mean = self.variable(name + ".running_mean", (c,), 0.25, trains=False)
        var = self.variable(name + ".running_var", (c,), 0.5, 1.0, trains=False)
        return F.batch_norm(x, mean, var, scale, shift, self.train and not frozen, self.momentum, self.eps)

    def conv_bn(self, name, x, out, k, act=None, **options):
        x = self.bn(name + ".bn", self.conv(name + ".conv", x, out, k, **options))
        return act(x) if act else x

    def linear(self, name, x, out):
        x = x.flatten(1)
        return F.linear(x, self.variable(name + ".weight", (out, x.shape[1]), 0.5), self.variable(name + ".bias", (out,), 0.25))

    def squeeze_excite(self, name, x, mid, gate=hard_sigmoid):
        s = F.relu(self.conv(name + ".se.reduce", x.mean((2, 3), keepdim=True), mid, 1, bias=True))
        return x * gate(self.conv(name + ".se.expand", s, x.shape[1], 1, bias=True))


# Vertex 1 feeds vertex 4, which has a channel less; vertex 3 does not feed the output; the input does.
CELL = [[0, 1, 0, 1, 0, 1], [0, 0, 1, 0, 1, 1], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1], [0] * 6]
OPS = ["input", "conv3x3-bn-relu", "maxpool3x3", "conv1x1-bn-relu", "conv3x3-bn-relu", "output"]
CELL_CHANNELS = {8: [8, 3, 3, 2, 2, 8], 16: [16, 6, 5, 5, 5, 16]}


def cell(net, name, x, channels):
    last = len(CELL) - 1
    at = [x]
    for v in range(1, last + 1):
        c = CELL_CHANNELS[channels][v]
        inner = [at[u] for u in range(1, v) if CELL[u][v]]
        if v == last:
            inner = [torch.cat(inner, 1)]
        total = sum(t[:, :c] for t in inner)
        if CELL[0][v]:
            total = total + net.conv_bn(f"{name}.vertex{v}.projection", x, c, 1, F.relu)
        if OPS[v].startswith("conv"):
            total = net.conv_bn(f"{name}.vertex{v}", total, c, int(OPS[v][4]), F.relu)
        elif OPS[v] == "maxpool3x3":
            total = F.max_pool2d(total, 3, 1, 1)
        at.append(total)
    return at[last]


def nasbench101(net, x):
    x = net.conv_bn("stem", x, 8, 3, F.relu)
    x = cell(net, "stack1.module1", x, 8)
    x = cell(net, "stack2.module1", F.max_pool2d(x, 2, 2), 16)
    return [net.linear("classifier", x.mean((2, 3)), 10)]


def inverted(net, name, x, mid, out, k, stride, se, act):
    y = net.conv_bn(name + ".expand", x, mid, 1, act)
    y = net.conv_bn(name + ".depthwise", y, mid, k, act, stride=stride, groups=mid)
    if se:
        y = net.squeeze_excite(name, y, se)
    y = net.conv_bn(name + ".project", y, out, 1)
    return x + y if x.shape == y.shape else y


def mobile(net, x):
    x = net.conv_bn("stem", x, 6, 3, hard_swish, stride=2)
    x = inverted(net, "block1", x, 15, 8, 5, 2, 4, hard_swish)
    x = inverted(net, "block2", x, 11, 8, 3, 1, 0, F.relu6)
    x = inverted(net, "block3", x, 9, 8, 7, 1, 5, F.relu)
    x = hard_swish(net.conv("features", x.mean((2, 3), keepdim=True), 13, 1, bias=True))
    return [net.linear("classifier", x, 5)]


def shuffle(x, groups):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def reduce(net, name, x, out):
    x = F.relu(x)
    even = net.conv(name + ".even", x, out // 2, 1, stride=2)
    odd = net.conv(name + ".odd", F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:], out - out // 2, 1, stride=2)
    return net.bn(name + ".bn", torch.cat([even, odd], 1))


def operations(net, x):
    x = torch.sigmoid(net.conv("rect1", x, 6, (1, 7), bias=True))
    x = F.silu(net.conv("rect2", x, 8, (7, 1)))
    x = net.bn("frozen", net.conv("dilated", x, 12, 3, groups=4, dilation=2), frozen=True)
    a, b = shuffle(F.max_pool2d(x, 3, 2, 1), 3).split([5, 7], 1)
    aux = net.linear("aux", a.mean((2, 3)), 5)
    a = F.avg_pool2d(a, 3, 1, 1, count_include_pad=False)
    b = F.avg_pool2d(b, (2, 3), (1, 1), (1, 1), count_include_pad=True)[:, :, :-1]
    x = reduce(net, "reduce", torch.cat([b, a], 1), 9)
    x = net.conv("gated", net.squeeze_excite("excite", x, 4, torch.sigmoid), 6, 3, groups=3)
    x = net.conv("high", net.conv("wide", x, 8, (1, 7), stride=(1, 2)), 9, (7, 1), stride=(2, 1))
    x = F.gelu(net.conv("same", F.pad(x, (1, 0, 2, 1)), 7, 3, stride=2, padding=0))
    return [net.linear("classifier", x.mean((2, 3)), 5), aux]


def document(build, tag, image, classes, smoothing, extra=None, distill=None, mixup=None, **norm):
    out = {"torch": torch.__version__.split("+")[0].split("a")[0], **(extra or {})}
    images, out["images"] = tensor((len(classes), *image), tag, 2.0)
    out.update(classes=classes, smoothing=smoothing)
    net = Net(tag + 1, **norm)
    teacher = None
    if distill:
        teacher, out["teacher"] = tensor((len(classes), distill["classes"]), tag + 999, 2.0)
        out.update(distill=distill["weight"], temperature=distill["temperature"])
    target = torch.tensor(classes)
    out.update(mixup or {})

    def hard(logits):
        loss = F.cross_entropy(logits, target, label_smoothing=smoothing)
        if mixup:
            other = F.cross_entropy(logits, torch.tensor(mixup["partners"]), label_smoothing=smoothing)
            loss = mixup["mix"] * loss + (1 - mixup["mix"]) * other
        return loss

    for mode in ("train", "eval"):
        net.train = mode == "train"
        x = images.clone().requires_grad_(True)
        logits, *heads = build(net, x.permute(0, 3, 1, 2))
        loss = hard(logits) + sum(0.4 * hard(head) for head in heads)
        if distill:
            t = distill["temperature"]
            loss = loss + distill["weight"] * t * t * F.cross_entropy(logits / t, F.softmax(teacher / t, 1))
        for v in net.values.values():
            v.grad = None
        loss.backward()
        named = net.values.items()
        out["variables"] = net.described
        out[mode] = {
            "logits": values(logits),
            "loss": loss.item(),
            "grads": {n: digest(v.grad) for n, v in named if v.requires_grad},
            "images_grad": digest(x.grad),
        }
        if net.train:
            out[mode]["running"] = {n: digest(v) for n, v in named if not v.requires_grad}
    return out


def fixtures():
    yield "nasbench101", document(nasbench101, 100, (8, 8, 3), [3, 9, 0], 0.0, {"matrix": CELL, "ops": OPS}, momentum=0.003)
    teacher = {"classes": 5, "weight": 0.75, "temperature": 2.5}
    yield "mobile", document(mobile, 300, (13, 11, 3), [1, 4, 4, 0], 0.1, distill=teacher, eps=1e-3, momentum=0.01)
    yield "operations", document(operations, 500, (10, 9, 3), [2, 0], 0.1, mixup={"partners": [1, 0], "mix": 0.7})


def main():
    p = argparse.ArgumentParser(description="writes the parity fixtures of trainer/nn; the format stands at the top of this file")
    p.add_argument("--check", action="store_true", help="compare with the files, write nothing")
    args = p.parse_args()
    torch.set_num_threads(1)
    bad = 0
    for name, fixture in fixtures():
        path = os.path.join(ROOT, "trainer", "nn", "testdata", f"torch_{name}.json")
        if args.check:
            with open(path) as f:
                found = differences(json.load(f), json.loads(dump(fixture)))
            for d in found[:5]:
                print(f"{path}: {d} differs", file=sys.stderr)
            bad += bool(found)
            continue
        with open(path, "w") as f:
            f.write(dump(fixture))
        print(path, os.path.getsize(path))
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
