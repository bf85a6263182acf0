"""DARTS's search network (Liu et al. 2019; sizes and order of operations as in quark0/darts, cnn/model_search.py): an update of the
numbers that the operations' weights come from, in first order, and one of the network's weights. The twin of
cmd/ctnas/bench/supernet.go. Each of the two asks autograd for the gradients that it uses and no others."""

import torch
import torch.nn.functional as F
from torch import nn

CHANNELS, CELLS, NODES, BATCH, SIDE, CLASSES = 16, 8, 4, 16, 32, 10
EDGES = sum(2 + node for node in range(NODES))


def norm(channels):
    return nn.BatchNorm2d(channels, affine=False)


def relu_conv_norm(c_in, c_out):
    return nn.Sequential(nn.ReLU(), nn.Conv2d(c_in, c_out, 1, bias=False), norm(c_out))


class FactorizedReduce(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.even = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.norm = norm(c_out)

    def forward(self, x):
        x = F.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], 1))


def depthwise(c, kernel, stride, dilation):
    reach = dilation * (kernel - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(c, c, kernel, stride, reach, dilation, groups=c, bias=False),
        nn.Conv2d(c, c, 1, bias=False),
        norm(c),
    ]


def operations(c, stride):
    """All but `none`, in the published order."""
    skip = nn.Identity() if stride == 1 else FactorizedReduce(c, c)
    return nn.ModuleList(
        [
            nn.Sequential(nn.MaxPool2d(3, stride, 1), norm(c)),
            nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm(c)),
            skip,
            nn.Sequential(*depthwise(c, 3, stride, 1), *depthwise(c, 3, 1, 1)),
            nn.Sequential(*depthwise(c, 5, stride, 1), *depthwise(c, 5, 1, 1)),
            nn.Sequential(*depthwise(c, 3, stride, 2)),
            nn.Sequential(*depthwise(c, 5, stride, 2)),
        ]
    )


class Cell(nn.Module):
    def __init__(self, c_before, c_last, c, reduces, reduced):
        super().__init__()
        self.before = FactorizedReduce(c_before, c) if reduced else relu_conv_norm(c_before, c)
        self.last = relu_conv_norm(c_last, c)
        self.edges = nn.ModuleList(operations(c, 2 if reduces and source < 2 else 1) for node in range(NODES) for source in range(2 + node))

    def forward(self, before, last, weights):
        states = [self.before(before), self.last(last)]
        edge = 0
        for _ in range(NODES):
            total = 0
            for x in states:
                total = total + sum(w * op(x) for w, op in zip(weights[edge][1:], self.edges[edge]))
                edge += 1
            states.append(total)
        return torch.cat(states[2:], 1)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        c = 3 * CHANNELS
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
        c_before, c_last, width, reduced = c, c, CHANNELS, False
        self.cells, self.reduces = nn.ModuleList(), []
        for i in range(CELLS):
            reduces = i in (CELLS // 3, 2 * CELLS // 3)
            width *= 2 if reduces else 1
            self.cells.append(Cell(c_before, c_last, width, reduces, reduced))
            self.reduces.append(reduces)
            c_before, c_last, reduced = c_last, NODES * width, reduces
        self.classifier = nn.Linear(c_last, CLASSES)

    def forward(self, x, alphas):
        weights = [F.softmax(a, -1) for a in alphas]
        before = last = self.stem(x)
        for cell, reduces in zip(self.cells, self.reduces):
            before, last = last, cell(before, last, weights[reduces])
        return self.classifier(last.mean((2, 3)))


class Step:
    """An update of both, each on images of its own, in one order of memory."""

    def __init__(self, channels_last):
        torch.manual_seed(1)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.net = Network().to(memory_format=self.format).train()
        self.alphas = [(1e-3 * torch.randn(EDGES, 8)).requires_grad_() for _ in range(2)]  # of normal and of reduction cells
        self.images = [torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=self.format) for _ in range(2)]
        self.labels = torch.randint(CLASSES, (BATCH,))
        self.weights = list(self.net.parameters())
        self.optimizer = torch.optim.SGD(self.weights, 0.025, momentum=0.9, weight_decay=3e-4, fused=True)
        self.architect = torch.optim.Adam(self.alphas, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)

    def want(self, alphas):
        """Gradients are wanted in α, or in the weights."""
        for a in self.alphas:
            a.requires_grad_(alphas)
        for w in self.weights:
            w.requires_grad_(not alphas)

    def run(self):
        self.want(True)
        self.architect.zero_grad(set_to_none=True)
        F.cross_entropy(self.net(self.images[1], self.alphas), self.labels).backward()
        self.architect.step()
        self.want(False)
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self.net(self.images[0], self.alphas), self.labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 5)
        self.optimizer.step()
        return loss.item()


if __name__ == "__main__":
    print(sum(p.numel() for p in Network().parameters()))  # 1930618, as the published code prints
    step = Step(False)
    print([step.run() for _ in range(3)])
