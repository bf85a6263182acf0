"""The comparators in PyTorch, written from the CTNAS paper (section 3) and the settings of its released version."""

import math

import torch
from torch import nn
from torch.nn import functional as F



class ResidualLayer(nn.Module):
    """H' = ReLU(M (H W) + H + b), M = transpose(A) + I, not normalised."""

    def __init__(self, width):
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(width, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, h, m):
        return F.relu(torch.baddbmm(h + self.bias, m, torch.matmul(h, self.weight)))


class Released(nn.Module):
    """The released comparator: 4 residual layers of width 128, mean over 7 nodes (padding included), linear head.

    The head sees [f0; f1], so its logit is u(f0) + v(f1) + b.
    """

    def __init__(self, layers=4, width=128):
        super().__init__()
        self.embedding = nn.Embedding(6, width)  # N(0, 1)
        self.layers = nn.ModuleList(ResidualLayer(width) for _ in range(layers))
        self.fc = nn.Linear(2 * width, 1)

    def encode(self, ids, m):
        """ids [B, 7], m [B, 7, 7] -> [B, width]."""
        h = self.embedding(ids)
        for layer in self.layers:
            h = layer(h, m)
        return h.mean(dim=1)

    def head(self, f0, f1):
        return torch.sigmoid(self.fc(torch.cat([f0, f1], dim=1))).squeeze(1)

    def forward(self, g0, g1):
        """Probability that g0 is better than g1; each is (ids, m)."""
        return self.head(self.encode(*g0), self.encode(*g1))


class Paper(nn.Module):
    """The paper's two layers: Z = M ReLU(M X W0) W1, no residual, no bias; mean over the cell's own vertices."""

    def __init__(self, width=64):
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.embedding = nn.Embedding(6, width)
        self.weight0 = nn.Parameter(torch.empty(width, width).uniform_(-bound, bound))
        self.weight1 = nn.Parameter(torch.empty(width, width).uniform_(-bound, bound))
        self.fc = nn.Linear(2 * width, 1)

    def encode(self, ids, m):
        h = torch.bmm(m, torch.matmul(self.embedding(ids), self.weight0))
        z = torch.bmm(m, torch.matmul(F.relu(h), self.weight1))
        real = (ids != 0).to(z.dtype).unsqueeze(2)
        return (z * real).sum(dim=1) / real.sum(dim=1)

    def head(self, f0, f1):
        return torch.sigmoid(self.fc(torch.cat([f0, f1], dim=1))).squeeze(1)

    def forward(self, g0, g1):
        return self.head(self.encode(*g0), self.encode(*g1))


def adam(model):
    """Adam of the released settings; weight decay is the L2 term inside Adam."""
    return torch.optim.Adam(model.parameters(), lr=2e-4, betas=(0.5, 0.999), weight_decay=5e-4)


def targets(accuracy, perm):
    """1 where a cell is strictly better than its partner."""
    return (accuracy > accuracy[perm]).to(accuracy.dtype)


def step(model, optimizer, g0, g1, target):
    """One training step on given pairs; both sides are encoded."""
    optimizer.zero_grad()
    loss = forward_loss(model, g0, g1, target)
    loss.backward()
    optimizer.step()
    return loss


def forward_loss(model, g0, g1, target):
    return F.binary_cross_entropy(model(g0, g1), target)


def step_encode_once(model, optimizer, graphs, perm, target):
    """The same step where a batch is paired with its own permutation: each graph is encoded once (same result)."""
    optimizer.zero_grad()
    f = model.encode(*graphs)
    loss = F.binary_cross_entropy(model.head(f, f[perm]), target)
    loss.backward()
    optimizer.step()
    return loss


def select(graphs, index):
    return graphs[0][index], graphs[1][index]


@torch.no_grad()
def encode_space(model, graphs, batch):
    """All encodings [N, width]; graphs are ready tensors."""
    out = torch.empty(len(graphs[0]), model.fc.in_features // 2, device=graphs[1].device)
    for i in range(0, len(out), batch):
        out[i : i + batch] = model.encode(graphs[0][i : i + batch], graphs[1][i : i + batch])
    return out


@torch.no_grad()
def tau(model, graphs, accuracy, batch=1024):
    """Kendall's tau of the comparator's verdicts over all pairs i < j, both sides encoded for every pair."""
    first, second = torch.triu_indices(len(accuracy), len(accuracy), offset=1, device=accuracy.device)
    agree = 0
    for i in range(0, len(first), batch):
        a, b = first[i : i + batch], second[i : i + batch]
        p = model(select(graphs, a), select(graphs, b))
        agree += int(((p > 0.5) == (accuracy[a] > accuracy[b])).sum())
    return 2 * agree / len(first) - 1


