"""The networks whose training is compared, as torch modules. Names of parameters are those of ctnas (trainer/nn), so weights go from one to the other.

Written from the papers: NAS-Bench-101 (arXiv 1902.09635), MobileNetV2 (1801.04381), MobileNetV3 (1905.02244). Modules are the ones that PyTorch
users take (nn.Conv2d, nn.BatchNorm2d, nn.ReLU(inplace=True), ...).
"""

import torch
from torch import nn


def set_at(module, path, child):
    """Puts child below module under a dotted name."""
    *parents, last = path.split(".")
    for p in parents:
        if p not in module._modules:
            module.add_module(p, nn.Module())
        module = module._modules[p]
    module.add_module(last, child)


class ConvNorm(nn.Module):
    def __init__(self, c_in, c_out, k, act=None, stride=1, groups=1, eps=1e-5, momentum=0.1):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, k, stride, k // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps, momentum)
        self.act = act

    def forward(self, x):
        x = self.bn(self.conv(x))
        return self.act(x) if self.act else x


def relu():
    return nn.ReLU(inplace=True)


class Cell(nn.Module):
    """One cell of NAS-Bench-101. ops: for each interior vertex 3 or 1 (a convolution's side) or 0 (max-pooling)."""

    def __init__(self, matrix, ops, c_in, out):
        super().__init__()
        self.matrix, self.last = matrix, len(matrix) - 1
        self.channels = vertex_channels(matrix, out)
        norm = {"eps": 1e-5, "momentum": 0.003}
        for v in range(1, self.last + 1):
            c = self.channels[v]
            if v < self.last and ops[v - 1]:
                set_at(self, f"vertex{v}", ConvNorm(c, c, ops[v - 1], relu(), **norm))
            if matrix[0][v]:
                set_at(self, f"vertex{v}.projection", ConvNorm(c_in, c, 1, relu(), **norm))
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.ops = ops

    def forward(self, x):
        at = [x]
        for v in range(1, self.last + 1):
            m, c = self._modules.get(f"vertex{v}"), self.channels[v]
            inner = [at[u] for u in range(1, v) if self.matrix[u][v]]
            if v == self.last and len(inner) > 1:
                inner = [torch.cat(inner, 1)]
            if self.matrix[0][v]:
                inner.append(m.projection(x))
            total = inner[0][:, :c]
            for t in inner[1:]:
                total = total + t[:, :c]
            if v < self.last:
                total = m(total) if self.ops[v - 1] else self.pool(total)
            at.append(total)
        return at[self.last]


def vertex_channels(matrix, out):
    """Channels of each vertex (section 2.2 of the paper's appendix): those before the output share its channels, others have as many as they feed."""
    last = len(matrix) - 1
    feeding = sum(matrix[v][last] for v in range(1, last))
    channels, first = [0] * last + [out], 0
    for v in range(1, last):
        if matrix[v][last]:
            channels[v] = out // feeding + (first < out % feeding)
            first += 1
    for v in range(last - 1, 0, -1):
        if not matrix[v][last]:
            channels[v] = max(channels[u] for u in range(v + 1, last) if matrix[v][u])
    return channels


def cell_text(adjacency, digits):
    """The matrix and operations of ctnas' way to write a cell: the strict upper triangle, a digit for each interior vertex."""
    n = len(digits) + 2
    matrix, bits = [[0] * n for _ in range(n)], iter(adjacency)
    for u in range(n):
        for v in range(u + 1, n):
            matrix[u][v] = int(next(bits))
    return matrix, [{"0": 3, "1": 1, "2": 0}[d] for d in digits]


# In ctnas' canonical order of vertices, as its networks are built (`ctnas space show nasbench101 nasbench101:inception`).
CELLS = {"best": ("110011000101000100101", "10200"), "inception": ("111100000010001001101", "01200")}


class NASBench101(nn.Module):
    def __init__(self, cell, channels=128, classes=10, stacks=3, modules=3):
        super().__init__()
        matrix, ops = cell_text(*CELLS[cell])
        self.stem = ConvNorm(3, channels, 3, relu(), momentum=0.003)
        self.order, c = [], channels
        for s in range(stacks):
            out = channels << s
            for k in range(modules):
                set_at(self, f"stack{s + 1}.module{k + 1}", Cell(matrix, ops, c, out))
                self.order.append((s > 0 and k == 0, self._modules[f"stack{s + 1}"]._modules[f"module{k + 1}"]))
                c = out
        self.down = nn.MaxPool2d(2, 2)
        self.classifier = nn.Linear(c, classes)

    def forward(self, x):
        x = self.stem(x)
        for halve, cell in self.order:
            x = cell(self.down(x) if halve else x)
        return self.classifier(x.mean((2, 3)))


class SqueezeExcite(nn.Module):
    def __init__(self, c, mid):
        super().__init__()
        self.reduce, self.act = nn.Conv2d(c, mid, 1), relu()
        self.expand, self.gate = nn.Conv2d(mid, c, 1), nn.Hardsigmoid(inplace=True)

    def forward(self, x):
        return x * self.gate(self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True)))))


class Inverted(nn.Module):
    def __init__(self, c_in, mid, out, k, stride, se, act, **norm):
        super().__init__()
        if mid != c_in:
            self.expand = ConvNorm(c_in, mid, 1, act(), **norm)
        self.depthwise = ConvNorm(mid, mid, k, act(), stride, mid, **norm)
        if se:
            self.se = SqueezeExcite(mid, se)
        self.project = ConvNorm(mid, out, 1, **norm)
        self.adds = stride == 1 and c_in == out

    def forward(self, x):
        y = x
        for layer in self.children():
            y = layer(y)
        return x + y if self.adds else y


def round_channels(c):
    n = max(8, int(c + 4) // 8 * 8)
    return n + 8 if n < 0.9 * c else n


class MobileNetV2(nn.Module):
    def __init__(self, width=1.4, classes=1000):
        super().__init__()
        act = lambda: nn.ReLU6(inplace=True)  # noqa: E731
        c, block = round_channels(32 * width), 0
        self.stem = ConvNorm(3, c, 3, act(), 2)
        for expand, out, repeat, stride in (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1):
            for i in range(repeat):
                block, o = block + 1, round_channels(out * width)
                self.add_module(f"block{block}", Inverted(c, expand * c, o, 3, stride if i == 0 else 1, 0, act))
                c = o
        self.head = ConvNorm(c, max(1280, round_channels(1280 * width)), 1, act())
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(self.head.conv.out_channels, classes)

    def forward(self, x):
        for name, layer in self.named_children():
            if name == "dropout":
                x = x.mean((2, 3))
            x = layer(x)
        return x


class MobileNetV3Large(nn.Module):
    BLOCKS = (
        (3, 1, 16, 16, 0, relu), (3, 2, 64, 24, 0, relu), (3, 1, 72, 24, 0, relu), (5, 2, 72, 40, 24, relu), (5, 1, 120, 40, 32, relu),
        (5, 1, 120, 40, 32, relu), (3, 2, 240, 80, 0, None), (3, 1, 200, 80, 0, None), (3, 1, 184, 80, 0, None), (3, 1, 184, 80, 0, None),
        (3, 1, 480, 112, 120, None), (3, 1, 672, 112, 168, None), (5, 2, 672, 160, 168, None), (5, 1, 960, 160, 240, None), (5, 1, 960, 160, 240, None),
    )  # fmt: skip

    def __init__(self, classes=1000):
        super().__init__()
        hard, norm, c = lambda: nn.Hardswish(inplace=True), {"eps": 1e-3, "momentum": 0.01}, 16  # noqa: E731
        self.stem = ConvNorm(3, c, 3, hard(), 2, **norm)
        for i, (k, stride, mid, out, se, act) in enumerate(self.BLOCKS):
            self.add_module(f"block{i + 1}", Inverted(c, mid, out, k, stride, se, act or hard, **norm))
            c = out
        self.head = ConvNorm(c, 960, 1, hard(), **norm)
        self.features = nn.Module()
        self.features.conv, self.features.act = nn.Conv2d(960, 1280, 1), hard()
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x):
        x = self.stem(x)
        for i in range(len(self.BLOCKS)):
            x = self._modules[f"block{i + 1}"](x)
        x = self.head(x).mean((2, 3), keepdim=True)
        x = self.features.act(self.features.conv(x)).flatten(1)
        return self.classifier(self.dropout(x))


# name: (module, side of the images, batch on the CPU)
NETWORKS = {
    "train_nb101_best": (lambda: NASBench101("best"), 32, 8),
    "train_nb101_inception": (lambda: NASBench101("inception"), 32, 8),
    "train_mobilenetv3_large": (MobileNetV3Large, 224, 16),
    "train_mobilenetv2_1.4": (MobileNetV2, 224, 16),
    "train_nb101_small": (lambda: NASBench101("best", 16), 32, 32),
}
GPU_BATCH = 256
