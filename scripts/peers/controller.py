"""The LSTM controller in PyTorch, written from the paper and the released settings.

One cell takes 18 decisions, whatever its size:
  0                       number of interior vertices n, 5 choices (value k means n = k + 1)
  for vertex i = 1..n     its predecessor (i choices: 0..i-1), its operation (3 choices)
  output's predecessor    n + 1 choices
  8 - n pairs of vertices n + 2 choices each: an extra edge, none where both are equal
"""

import torch
from torch import nn
from torch.distributions import Categorical
from torch.nn import functional as F

import cells

HIDDEN = 64
COUNT, NODE, OP = range(3)
OP_DIGITS = (1, 0, 2)  # decision conv1x1, conv3x3, maxpool -> digit of the cell's text form
ENTROPY_WEIGHT = 5e-4


def program(n):
    """The decisions after the first: (head, choices), for n interior vertices."""
    steps = []
    for i in range(1, n + 1):
        steps += [(NODE, i), (OP, 3)]
    steps.append((NODE, n + 1))
    steps += [(NODE, n + 2)] * (2 * (8 - n))
    return steps


def decode(decisions):
    """The pruned cell of 18 decisions."""
    n = decisions[0] + 1
    edges, ops, k = set(), [], 1
    for i in range(1, n + 1):
        edges.add((decisions[k], i))
        ops.append(OP_DIGITS[decisions[k + 1]])
        k += 2
    edges.add((decisions[k], n + 1))
    for a, b in zip(decisions[k + 1 :: 2], decisions[k + 2 :: 2]):
        if a != b:
            edges.add((min(a, b), max(a, b)))
    return cells.from_edges(n + 2, edges, ops)


class Controller(nn.Module):
    def __init__(self):
        super().__init__()
        self.count_embedding = nn.Embedding(5, HIDDEN)
        self.node_embedding = nn.Embedding(7, HIDDEN)
        self.op_embedding = nn.Embedding(3, HIDDEN)
        self.lstm = nn.LSTMCell(HIDDEN, HIDDEN)
        self.count_head = nn.Linear(HIDDEN, 5)
        self.op_head = nn.Linear(HIDDEN, 3)
        self.attention_node = nn.Linear(HIDDEN, HIDDEN, bias=False)  # W1
        self.attention_hidden = nn.Linear(HIDDEN, HIDDEN, bias=False)  # W2
        self.attention_out = nn.Linear(HIDDEN, 1, bias=False)  # v
        for p in self.parameters():
            nn.init.uniform_(p, -0.1, 0.1)

    def logits(self, head, choices, h):
        """h [1, 64] -> [choices]."""
        if head == COUNT:
            return self.count_head(h).squeeze(0)
        if head == OP:
            return self.op_head(h).squeeze(0)
        e = self.node_embedding.weight[:choices]
        return self.attention_out(torch.tanh(self.attention_node(e) + self.attention_hidden(h))).squeeze(1)

    def embed(self, head, index):
        table = (self.count_embedding, self.node_embedding, self.op_embedding)[head]
        return table(index).view(1, HIDDEN)

    def rollout(self, decisions=None, trace=None):
        """One cell: (decisions, sum of log probabilities, sum of entropies).

        Samples, or follows `decisions`; `trace` collects (head, choices, logits, log probability, entropy) of each step.
        """
        x = self.lstm.weight_ih.new_zeros(1, HIDDEN)
        h, c = torch.zeros_like(x), torch.zeros_like(x)
        taken, logps, entropies = [], [], []
        steps, k = [(COUNT, 5)], 0
        while k < len(steps):
            head, choices = steps[k]
            h, c = self.lstm(x, (h, c))
            logits = self.logits(head, choices, h)
            distribution = Categorical(logits=logits)
            index = distribution.sample() if decisions is None else torch.tensor(decisions[k], device=h.device)
            logps.append(distribution.log_prob(index))
            entropies.append(distribution.entropy())
            taken.append(index.item())
            if trace is not None:
                trace.append((head, choices, logits, logps[-1], entropies[-1]))
            if k == 0:
                steps += program(taken[0] + 1)
            x = self.embed(head, index)
            k += 1
        return taken, torch.stack(logps).sum(), torch.stack(entropies).sum()

    def rollout_lean(self):
        """The same distribution with the least PyTorch work we could find; no Categorical, no argument checks.

        A second, harder peer: shows how much of the difference is the style of the usual PyTorch program.
        """
        x = self.lstm.weight_ih.new_zeros(1, HIDDEN)
        h, c = x, x
        keys = self.attention_node(self.node_embedding.weight)
        taken, logps, entropies = [], [], []
        steps, k = [(COUNT, 5)], 0
        while k < len(steps):
            head, choices = steps[k]
            h, c = self.lstm(x, (h, c))
            if head == NODE:
                logits = torch.mv(torch.tanh(keys[:choices] + self.attention_hidden(h)), self.attention_out.weight[0])
            else:
                logits = self.logits(head, choices, h)
            logp = F.log_softmax(logits, dim=0)
            p = logp.exp()
            index = int(torch.multinomial(p, 1))
            taken.append(index)
            logps.append(logp[index])
            entropies.append(-torch.dot(p, logp))
            if k == 0:
                steps += program(index + 1)
            table = (self.count_embedding, self.node_embedding, self.op_embedding)[head]
            x = table.weight[index : index + 1]
            k += 1
        return taken, torch.stack(logps).sum(), torch.stack(entropies).sum()


def adam(model, fused=None):
    return torch.optim.Adam(model.parameters(), lr=2e-4, betas=(0.5, 0.999), weight_decay=5e-4, fused=fused)


def update(optimizer, logp, entropy, score):
    """REINFORCE with one cell and no baseline."""
    optimizer.zero_grad()
    loss = -logp * score - ENTROPY_WEIGHT * entropy
    loss.backward()
    optimizer.step()
    return loss


def iteration(model, optimizer, comparator, baseline, lean=False):
    """One iteration: a rollout, its reward against the baseline's tensors, the update. Returns the decisions and score."""
    decisions, logp, entropy = model.rollout_lean() if lean else model.rollout()
    with torch.no_grad():
        graph = tuple(t.to(baseline[0].device) for t in cells.tensors([decode(decisions)]))
        score = comparator(graph, baseline).item()
    update(optimizer, logp, entropy, score)
    return decisions, score
