"""The released search schedule in PyTorch: comparator, controller, data exploration, curriculum baseline.

1,000 comparator epochs on 423 labelled cells (2 steps each), then 10,000 controller iterations; every 100 iterations
data exploration, one comparator epoch and tau on 100 validation cells; every 500 iterations a new baseline.
"""

import time

import torch

import cells
import controller
import nac

EPOCHS = 1000
ITERATIONS = 10000
EXPLORE_EVERY = 100
DERIVE_EVERY = 500
LABELS = 423
VALIDATION = 100
BATCH = 256


class Clock:
    """Seconds and number of runs by part, to extrapolate a fraction of the schedule part by part."""

    def __init__(self):
        self.parts = {}

    def time(self, part, f, *args):
        begin = time.perf_counter()
        result = f(*args)
        seconds, runs = self.parts.get(part, (0.0, 0))
        self.parts[part] = (seconds + time.perf_counter() - begin, runs + 1)
        return result

    def whole(self, counts):
        """Seconds of the whole schedule: each part's mean time by its number of runs."""
        return sum(self.parts[part][0] / self.parts[part][1] * n for part, n in counts.items() if n)


COUNTS = {
    "epoch": EPOCHS,
    "iteration": ITERATIONS,
    "explore_first": 1,
    "explore": ITERATIONS // EXPLORE_EVERY - 1,
    "derive": ITERATIONS // DERIVE_EVERY,
}


class Search:
    """labels, validation: (cells, accuracies). Tensors of both are made here, outside the schedule."""

    def __init__(self, labels, validation, seed, device="cpu"):
        torch.manual_seed(seed)
        self.device = device
        self.train = self.tensors(labels[0])
        self.accuracy = torch.tensor(labels[1], device=device)
        self.held_out = self.tensors(validation[0])
        self.held_out_accuracy = torch.tensor(validation[1], device=device)
        self.comparator = nac.Released().to(device)
        self.comparator_adam = nac.adam(self.comparator)
        self.controller = controller.Controller().to(device)
        self.controller_adam = controller.adam(self.controller)
        self.pool = None  # (graphs0, graphs1, targets)
        self.taus = []
        self.baseline = None  # (cell, tensors)
        self.history = None

    def tensors(self, some):
        return tuple(t.to(self.device) for t in cells.tensors(some))

    def run(self, fraction=1.0):
        """Runs a fraction of the schedule; returns the clock, whose whole(COUNTS) is the time of all of it."""
        clock = Clock()
        for _ in range(max(1, round(EPOCHS * fraction))):
            clock.time("epoch", self.epoch)
        iterations = max(1, round(ITERATIONS * fraction / DERIVE_EVERY)) * DERIVE_EVERY
        first = self.sample(1)[0]
        self.baseline = self.history = (first, self.tensors([first]))
        for i in range(1, iterations + 1):
            clock.time("iteration", self.iterate)
            if i % EXPLORE_EVERY == 0:
                clock.time("explore_first" if i == EXPLORE_EVERY else "explore", self.explore)
            if i % DERIVE_EVERY == 0:
                clock.time("derive", self.derive)
        return clock

    def epoch(self):
        """One pass over the labelled cells; with a pool, each batch is joined by as many random pairs of the pool."""
        order = torch.randperm(len(self.accuracy), device=self.device)
        for i in range(0, len(order), BATCH):
            index = order[i : i + BATCH]
            partner = index[torch.randperm(len(index), device=self.device)]
            g0, g1 = nac.select(self.train, index), nac.select(self.train, partner)
            target = (self.accuracy[index] > self.accuracy[partner]).float()
            if self.pool is not None:
                p0, p1, labels = self.pool
                pick = torch.randint(len(labels), (len(index),), device=self.device)
                g0 = tuple(torch.cat([a, b[pick]]) for a, b in zip(g0, p0))
                g1 = tuple(torch.cat([a, b[pick]]) for a, b in zip(g1, p1))
                target = torch.cat([target, labels[pick]])
            nac.step(self.comparator, self.comparator_adam, g0, g1, target)

    def sample(self, n):
        with torch.no_grad():
            return [controller.decode(self.controller.rollout()[0]) for _ in range(n)]

    def iterate(self):
        controller.iteration(self.controller, self.controller_adam, self.comparator, self.baseline[1])

    def explore(self):
        """Pseudo-labels: of sampled cells paired with their permutation, the half with the highest probability."""
        sampled = self.sample(512 if self.pool is None else 200)
        g0 = self.tensors(sampled)
        g1 = nac.select(g0, torch.randperm(len(sampled), device=self.device))
        with torch.no_grad():
            p = self.comparator(g0, g1)
        top = p.topk(len(sampled) // 2).indices
        new = (nac.select(g0, top), nac.select(g1, top), (p[top] > 0.5).float())
        if self.pool is not None:
            old = self.pool
            new = (
                tuple(torch.cat(pair) for pair in zip(old[0], new[0])),
                tuple(torch.cat(pair) for pair in zip(old[1], new[1])),
                torch.cat([old[2], new[2]]),
            )
        self.pool = new
        self.epoch()
        self.taus.append(nac.tau(self.comparator, self.held_out, self.held_out_accuracy))

    def best(self, candidates):
        """The cell with the highest summed probability against the others."""
        graphs = self.tensors(candidates)
        n = len(candidates)
        first = torch.arange(n, device=self.device).repeat_interleave(n)
        second = torch.arange(n, device=self.device).repeat(n)
        off = first != second
        first, second = first[off], second[off]
        with torch.no_grad():
            p = self.comparator(nac.select(graphs, first), nac.select(graphs, second))
        k = int(p.view(n, n - 1).sum(dim=1).argmax())
        return candidates[k], nac.select(graphs, slice(k, k + 1))

    def derive(self):
        sampled = self.sample(10)
        self.baseline = self.best(sampled)
        self.history = self.best(sampled + [self.history[0]])
