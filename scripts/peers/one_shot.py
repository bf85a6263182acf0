#!/usr/bin/env python3
"""How well a supernet of NAS-Bench-101's small cells ranks them when a plain PyTorch loop trains it, beside `ctnas supernet train` and `rank`.

  one_shot.py [--method spos|fairnas] [--seeds 1,2,3,4,5] [--updates 3924] [--area-min 0.7] ...

The supernet is that of docs/one-shot.md (weights on vertices, first channels), the images are the program's own `shapes`, which a Go test
writes. For each seed it prints Kendall's tau-b of the accuracies of all 91 cells on 500 held-out images, their norms' statistics taken from
one batch of these, with the mean test accuracy in the table shapes91, and the true accuracy of the best of them. FairNAS, whose updates train
three paths, is asked for with a third of the updates.
"""

import argparse
import csv
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms.v2 import functional as transforms

import nets
from tau import tau_b

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
INTERIOR, CHANNELS, STACKS, SIDE, CLASSES = 2, 8, 3, 16, 10


class Part(nn.Module):
    """A convolution with batch norm and ReLU of which a cell takes the first channels of both sides. Norms know no statistics but the batch's."""

    def __init__(self, c_in, out, k):
        super().__init__()
        self.conv = nn.Conv2d(c_in, out, k, padding=k // 2, bias=False)
        self.gamma, self.beta = nn.Parameter(torch.ones(out)), nn.Parameter(torch.zeros(out))

    def forward(self, x, c):
        x = F.conv2d(x, self.conv.weight[:c, : x.shape[1]], padding=self.conv.padding)
        return F.relu(F.batch_norm(x, None, None, self.gamma[:c], self.beta[:c], True, eps=1e-5))


class Slots(nn.Module):
    """The weights of one cell of the network: for each vertex a projection of the cell's input and two convolutions, for the output a projection."""

    def __init__(self, c_in, out):
        super().__init__()
        self.out = out
        self.projections = nn.ModuleList(Part(c_in, out, 1) for _ in range(INTERIOR + 1))
        self.convolutions = nn.ModuleList(nn.ModuleDict({"1": Part(out, out, 1), "3": Part(out, out, 3)}) for _ in range(INTERIOR))

    def forward(self, x, cell):
        matrix, ops = cell
        last, channels = len(matrix) - 1, nets.vertex_channels(matrix, self.out)
        at = [x]
        for v in range(1, last + 1):
            c = channels[v]
            inner = [at[u] for u in range(1, v) if matrix[u][v]]
            if v == last and len(inner) > 1:
                inner = [torch.cat(inner, 1)]
            terms = [t[:, :c] for t in inner]
            if matrix[0][v]:
                terms.append(self.projections[INTERIOR if v == last else v - 1](x, c))
            total = sum(terms[1:], terms[0])
            if v < last:
                k = ops[v - 1]
                total = self.convolutions[v - 1][str(k)](total, c) if k else F.max_pool2d(total, 3, 1, 1)
            at.append(total)
        return at[last]


class Supernet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = Part(3, CHANNELS, 3)
        widths = [CHANNELS << s for s in range(STACKS)]
        self.cells = nn.ModuleList(Slots(a, b) for a, b in zip([CHANNELS] + widths, widths))
        self.classifier = nn.Linear(widths[-1], CLASSES)

    def forward(self, x, cell):
        x = self.stem(x, CHANNELS)
        for s, slots in enumerate(self.cells):
            x = slots(F.max_pool2d(x, 2) if s else x, cell)
        return self.classifier(x.mean((2, 3)))


def images():
    """(pixels [N, 3, 32, 32] of bytes, labels) of the images to train on and of the held-out ones, as the program splits them."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["go", "test", "-count=1", "-run", "TestWriteShapes", "./trainer/data"],
            cwd=ROOT, check=True, stdout=sys.stderr, env={**os.environ, "CTNAS_SHAPES": folder},
        )  # fmt: skip
        for name in "train", "heldout":
            records = np.fromfile(os.path.join(folder, name + ".bin"), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
            yield torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32)), torch.from_numpy(records[:, 0]).long()


def table():
    """{architecture: mean test accuracy of three runs} and, of the same architectures, the trained parameters."""
    with open(os.path.join(ROOT, "search", "table", "tables", "shapes91.csv"), newline="") as f:
        rows = list(csv.DictReader(f))
    accuracy = {r["arch"]: statistics.mean(float(r[f"test_accuracy_run{k}_epochs4"]) for k in (1, 2, 3)) for r in rows}
    return accuracy, [int(r["trained_params"]) for r in rows]


def resizing(start, length, size, side):
    """[N, side, size] matrices that resize the pixels start .. start + length - 1 of size along an axis to side, bilinear and antialiased."""
    scale = (length / side).view(-1, 1, 1)
    middle = start.view(-1, 1, 1) + (torch.arange(side).view(1, -1, 1) + 0.5) * scale
    pixel = torch.arange(size).view(1, 1, -1)
    weight = (1 - (pixel + 0.5 - middle).abs() / scale.clamp(min=1)).clamp(min=0)
    weight = weight * ((pixel >= start.view(-1, 1, 1)) & (pixel < (start + length).view(-1, 1, 1)))
    return weight / weight.sum(2, keepdim=True)


def crops(pixels, area_min):
    """Random resized crops, mirrored half of the time, with torchvision's distribution but of a whole batch at once: its own take as long as the step."""
    n, size = len(pixels), pixels.shape[-1]
    area = size * size * torch.empty(n, 10).uniform_(area_min, 1)
    ratio = torch.empty(n, 10).uniform_(-math.log(4 / 3), math.log(4 / 3)).exp()
    w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (w <= size) & (h <= size)
    first, none = fits.int().argmax(1, keepdim=True), ~fits.any(1)
    w, h = (torch.where(none, size, v.gather(1, first).squeeze(1)) for v in (w, h))  # the whole image where none of ten fits
    x, y = (torch.floor(torch.rand(n) * (size - v + 1)) for v in (w, h))
    columns = resizing(x, w, size, SIDE)
    mirrored = torch.rand(n) < 0.5
    columns[mirrored] = columns[mirrored].flip(1)
    return torch.einsum("nip,ncpq,njq->ncij", resizing(y, h, size, SIDE), pixels, columns)


def strict(cell, rng):
    """FairNAS's paths of an update: the topology of a cell, at every vertex each operation once."""
    matrix, ops = cell
    orders = [rng.sample((3, 1, 0), 3) for _ in ops]
    return [(matrix, [order[k] for order in orders]) for k in range(3)]


def train(seed, cells, data, o):
    torch.manual_seed(seed)
    rng = random.Random(seed)
    net = Supernet()
    optimizer = torch.optim.SGD(net.parameters(), o.lr, momentum=0.9, weight_decay=3e-4)
    if o.untouched == "move":  # gradients of zero, not none, from the first update on
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
    pixels, labels = data
    order = []
    for update in range(o.updates):
        if len(order) < o.batch:
            order = torch.randperm(len(labels)).tolist()
        batch, order = order[: o.batch], order[o.batch :]
        x = crops(pixels[batch], o.area_min)
        cell = rng.choice(cells)
        for group in optimizer.param_groups:
            group["lr"] = o.lr * (1 - update / o.updates)
        optimizer.zero_grad(set_to_none=o.untouched == "stay")
        for path in [cell] if o.method == "spos" else strict(cell, rng):
            F.cross_entropy(net(x, path), labels[batch]).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5)
        optimizer.step()
    return net


@torch.inference_mode()
def judge(net, cells, data):
    pixels, labels = data
    return [(net(pixels, cell).argmax(1) == labels).float().mean().item() for cell in cells]


def main():
    p = argparse.ArgumentParser(description="a one-shot supernet in plain PyTorch; see the top of this file")
    p.add_argument("--method", choices=("spos", "fairnas"), default="spos")
    p.add_argument("--seeds", default="1,2,3,4,5")
    p.add_argument("--updates", type=int, default=3924)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=0.1, help="at the start; it falls to 0 along a line")
    p.add_argument("--area-min", type=float, default=0.7, help="least share of the area that a random resized crop shows")
    p.add_argument("--untouched", choices=("move", "stay"), default="move", help="what momentum and decay do to weights that no path of an update has")
    p.add_argument("--threads", type=int, default=1)
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    (pixels, labels), (held, right) = images()
    share = pixels.float() / 255
    mean, std = share.mean((0, 2, 3)).view(3, 1, 1), share.std((0, 2, 3), correction=0).view(3, 1, 1)
    shown = transforms.center_crop(transforms.resize(held.float(), [round(SIDE / 0.875)], antialias=True), [SIDE])
    accuracy, parameters = table()
    cells = [nets.cell_text(*arch.split(":")[2:]) for arch in accuracy]
    truth, taus, picks = np.array(list(accuracy.values())), [], []
    for seed in map(int, o.seeds.split(",")):
        start = time.process_time()
        net = train(seed, cells, ((share - mean) / std, labels), o)
        found = np.array(judge(net, cells, ((shown / 255 - mean) / std, right)))
        taus.append(tau_b(found, truth))
        picks.append(truth[found.argmax()])
        print(
            f"{o.method} seed {seed}: tau-b {taus[-1]:.3f}, accuracies {found.mean():.1%} in the mean, of the pick {picks[-1]:.1%} in the table, "
            f"{time.process_time() - start:.0f} s of CPU time",
            flush=True,
        )
    print(f"{o.method}: tau-b {np.mean(taus):.3f} in the mean, of parameters {tau_b(np.array(parameters), truth):.3f}; picks {np.mean(picks):.1%}")


if __name__ == "__main__":
    main()
