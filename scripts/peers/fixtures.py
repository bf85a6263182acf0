#!/usr/bin/env python3
"""Writes the parity fixtures: what PyTorch computes from given weights and inputs.

  fixtures.py            writes gcn/testdata/*.json and kernels/rnn/testdata/*.json of the repository
  fixtures.py --check    computes them again and compares, writes nothing

Weights are not stored. Element i (row-major, from 0) of a tensor {"tag", "scale"} is

    x = (i * 2654435769 + tag * 2246822507) mod 2^32
    x ^= x >> 16;  x = x * 569420461 mod 2^32;  x ^= x >> 15;  x = x * 1935289751 mod 2^32;  x ^= x >> 15
    value = ((x >> 16) - 32768) / 32768 * scale

Every scale has few bits, so each value is exact in float32 and in float64.

Every result stands twice: "f32", as PyTorch computes it in float32 (shortest decimal that reads back to the same
float32), and "f64", the same program in float64 (the reference: float32 must agree with it to rounding).

A tensor's gradient or value is given as {"norm": Euclidean norm, "stride": s, "sample": elements 0, s, 2s, ...}
(row-major).

gcn/testdata/torch_nac_released.json, torch_nac_paper64.json, torch_nac_paper128.json
  model        "released" or "paper"; layers, width
  torch        version
  adam         lr, beta1, beta2, eps, weight_decay (L2 term added to the gradient)
  params       [{name, shape, tag, scale}] in the order of PyTorch's parameters():
                 embedding [6, width] rows 0 pad, 1 input, 2 conv1x1, 3 conv3x3, 4 maxpool3x3, 5 output;
                 released: layer<k>.weight [in, out] (used as H W), layer<k>.bias [width]; paper: weight0, weight1 [in, out]
                 fc.weight [1, 2 width] (first half: the graph asked about; second half: its opponent), fc.bias [1]
  cells        text form of each cell; vertices stand in this order
  accuracies   of each cell, invented; two are equal
  perms        one permutation a step: in step k cell i is compared with cell perms[k][i] (some with itself)
  targets      of each step: 1 where accuracies[i] > accuracies[perm[i]], else 0
  f32, f64     features: {"cells": indices, "values": encodings of these cells}
               p: probabilities of step 0's pairs before any training
               loss: mean binary cross-entropy before each of the 3 Adam steps (pairs and targets of that step)
               grads: {name: ...} of step 0
               after1, after3: {name: ...} the parameters after 1 and after 3 steps
               p_after3: probabilities of step 0's pairs after 3 steps

kernels/rnn/testdata/torch_controller_small.json (weights within 3/32, as released), torch_controller_large.json (within 1/2)
  hidden       64; adam, torch, params as above. Names and shapes:
                 count_embedding [5, 64], node_embedding [7, 64], op_embedding [3, 64],
                 lstm.weight_ih [256, 64], lstm.weight_hh [256, 64], lstm.bias_ih [256], lstm.bias_hh [256] (gates i, f, g, o),
                 count_head.weight [5, 64], .bias [5], op_head.weight [3, 64], .bias [3] (y = W x + b),
                 attention_node [64, 64] (W1), attention_hidden [64, 64] (W2), attention_out [1, 64] (v):
                 logit of node j = v . tanh(W1 e_j + W2 h), e = node_embedding
  entropy_weight  loss = -logp * score - entropy_weight * entropy
  sequences    [{decisions (18), score, heads: of each step "count"|"node"|"op", choices: of each step}]
  f32, f64     sequences: of each, before any training: logits (list of each step's choices), logp and entropy of each
                 step, logp_sum, entropy_sum, loss, h_last and c_last (sample), grads
               trained: loss before each of 3 Adam steps (batch of one: sequence 0, 1, 2 in turn) and after3: the parameters
"""

import argparse
import json
import os
import sys

import numpy as np
import torch

import cells
import controller
import nac

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
SAMPLES = 24
STEPS = 3


def formula(count, tag, scale):
    """The weights of a tensor; see the top of the file. float64, exact in float32."""
    mask = np.uint64(0xFFFFFFFF)
    x = (np.arange(count, dtype=np.uint64) * np.uint64(2654435769) + np.uint64(tag * 2246822507)) & mask
    x ^= x >> np.uint64(16)
    x = (x * np.uint64(569420461)) & mask
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(1935289751)) & mask
    x ^= x >> np.uint64(15)
    return ((x >> np.uint64(16)).astype(np.float64) - 32768) / 32768 * scale


class Numbers:
    """Uniform integers for the inputs, from the same formula."""

    def __init__(self, tag):
        self.values = (formula(65536, tag, 32768) + 32768).astype(np.int64).tolist()

    def below(self, n):
        return self.values.pop() % n

    def permutation(self, n):
        p = list(range(n))
        for i in range(n - 1, 0, -1):
            j = self.below(i + 1)
            p[i], p[j] = p[j], p[i]
        return p


def number(v):
    """The shortest decimal of a float32 or float64 that reads back to the same value, as a Python float."""
    return float(str(v)) if isinstance(v, np.float32) else float(v)


def values(t):
    """A tensor as a list of numbers."""
    return [number(v) for v in t.detach().reshape(-1).numpy()]


def digest(t):
    t = t.detach()
    flat = t.reshape(-1)
    stride = max(1, len(flat) // SAMPLES)
    if stride > 1 and stride % 2 == 0:
        stride += 1  # an odd stride does not stay in one column
    return {"norm": number(flat.double().norm().numpy()[()]), "stride": stride, "sample": values(flat[::stride])}


def digests(named):
    return {name: digest(t) for name, t in named}


def fill(model, scales, rename, first_tag):
    """Sets every parameter by the formula; returns their descriptions in the order of parameters()."""
    described = []
    for k, (name, p) in enumerate(model.named_parameters()):
        scale, tag = scales(name), first_tag + k
        with torch.no_grad():
            p.copy_(torch.from_numpy(formula(p.numel(), tag, scale)).reshape(p.shape))
        described.append({"name": rename(name), "shape": list(p.shape), "tag": tag, "scale": scale})
    return described


ADAM = {"lr": 2e-4, "beta1": 0.5, "beta2": 0.999, "eps": 1e-8, "weight_decay": 5e-4}


def random_cells(count, numbers):
    """Pruned random cells of 2, 3, 4, 5, 6, 7, 5, 6, 7, 5, ... vertices and at most 9 edges; none stands twice."""
    out = [(2, "1", "")]
    while len(out) < count:
        nodes = len(out) + 2 if len(out) < 5 else 5 + len(out) % 3
        pairs = [(a, b) for a in range(nodes) for b in range(a + 1, nodes)]
        order = numbers.permutation(len(pairs))[: nodes + 2]
        cell = cells.from_edges(nodes, {pairs[k] for k in order}, [numbers.below(3) for _ in range(nodes - 2)])
        if cell is not None and cell[0] == nodes and cell not in out:
            out.append(cell)
    return out


def meet(perm, i, j):
    """Changes a permutation so that perm[i] = j."""
    k = perm.index(j)
    perm[i], perm[k] = perm[k], perm[i]


def nac_fixture(make, description, scales, tag):
    numbers = Numbers(1000 + tag)
    count = 24
    batch = random_cells(count, numbers)
    accuracies = [(8000 + numbers.below(1500)) / 10000 for _ in range(count)]
    accuracies[5] = accuracies[4]
    perms = [numbers.permutation(count) for _ in range(STEPS)]
    meet(perms[0], 5, 4)  # two equal accuracies
    meet(perms[0], 7, 7)  # a cell and itself
    out = dict(description)
    out.update(torch=torch.__version__.split("+")[0], adam=ADAM)

    def rename(name):
        name = name.replace("layers.", "layer")
        return "embedding" if name == "embedding.weight" else name

    for key, dtype in (("f32", torch.float32), ("f64", torch.float64)):
        model = make().to(dtype)
        out["params"] = fill(model, scales, rename, tag)
        out["cells"] = [cells.text(c) for c in batch]
        out["accuracies"] = accuracies
        out["perms"] = perms
        graphs = cells.tensors(batch, dtype)
        accuracy = torch.tensor(accuracies, dtype=dtype)
        out["targets"] = [[int(v) for v in nac.targets(accuracy, torch.tensor(p))] for p in perms]
        optimizer = nac.adam(model)

        def named():
            return [(rename(n), p) for n, p in model.named_parameters()]

        def probabilities():
            with torch.no_grad():
                return values(model(graphs, nac.select(graphs, torch.tensor(perms[0]))))

        result = {}
        with torch.no_grad():
            some = [0, 1, 2, 3]
            result["features"] = {"cells": some, "values": [values(f) for f in model.encode(*nac.select(graphs, torch.tensor(some)))]}
        result["p"] = probabilities()
        losses = []
        for k in range(STEPS):
            partner = torch.tensor(perms[k])
            loss = nac.step(model, optimizer, graphs, nac.select(graphs, partner), nac.targets(accuracy, partner))
            losses.append(loss)
            if k == 0:
                result["grads"] = digests((n, p.grad) for n, p in named())
                result["after1"] = digests(named())
        result["loss"] = values(torch.stack(losses))
        result["after3"] = digests(named())
        result["p_after3"] = probabilities()
        out[key] = result
    return out


HEADS = {controller.COUNT: "count", controller.NODE: "node", controller.OP: "op"}


def controller_fixture(scale, tag):
    numbers = Numbers(2000 + tag)
    sequences = []
    for n, score in ((5, 0.75), (3, 0.40625), (1, 0.96875)):
        steps = [(controller.COUNT, 5)] + controller.program(n)
        decisions = [n - 1] + [numbers.below(choices) for _, choices in steps[1:]]
        sequences.append(
            {
                "decisions": decisions,
                "score": score,
                "heads": [HEADS[h] for h, _ in steps],
                "choices": [c for _, c in steps],
            }
        )
    out = {"hidden": controller.HIDDEN, "torch": torch.__version__.split("+")[0], "adam": ADAM}
    out["entropy_weight"] = controller.ENTROPY_WEIGHT

    def rename(name):
        if name.startswith("attention") or name.endswith("embedding.weight"):
            return name.removesuffix(".weight")
        return name

    for key, dtype in (("f32", torch.float32), ("f64", torch.float64)):
        model = controller.Controller().to(dtype)
        out["params"] = fill(model, lambda _: scale, rename, tag)
        out["sequences"] = sequences
        optimizer = controller.adam(model)
        named = [(rename(n), p) for n, p in model.named_parameters()]
        results = []
        for s in sequences:
            trace, state = [], []
            hook = model.lstm.register_forward_hook(lambda _m, _i, o: state.append(o))
            _, logp, entropy = model.rollout(s["decisions"], trace)
            hook.remove()
            loss = -logp * s["score"] - controller.ENTROPY_WEIGHT * entropy
            optimizer.zero_grad()
            loss.backward()
            assert [c for _, c, *_ in trace] == s["choices"]
            results.append(
                {
                    "logits": [values(t[2]) for t in trace],
                    "logp": values(torch.stack([t[3] for t in trace])),
                    "entropy": values(torch.stack([t[4] for t in trace])),
                    "logp_sum": values(logp)[0],
                    "entropy_sum": values(entropy)[0],
                    "loss": values(loss)[0],
                    "h_last": digest(state[-1][0]),
                    "c_last": digest(state[-1][1]),
                    "grads": digests((n, p.grad) for n, p in named),
                }
            )
        losses = []
        for s in sequences:
            _, logp, entropy = model.rollout(s["decisions"])
            losses.append(controller.update(optimizer, logp, entropy, s["score"]))
        out[key] = {
            "sequences": results,
            "trained": {"loss": values(torch.stack(losses)), "after3": digests(named)},
        }
    return out


def released_scales(name):
    return {"embedding.weight": 1.5, "fc.weight": 0.0625, "fc.bias": 0.0625}.get(name, 0.09375)


def paper_scales(name):
    return {"embedding.weight": 1.5, "fc.weight": 0.09375, "fc.bias": 0.09375}.get(name, 0.125)


def fixtures():
    released = {"model": "released", "layers": 4, "width": 128}
    yield "gcn/testdata/torch_nac_released.json", nac_fixture(nac.Released, released, released_scales, 73)
    for k, width in enumerate((64, 128)):
        paper = {"model": "paper", "layers": 2, "width": width}
        yield f"gcn/testdata/torch_nac_paper{width}.json", nac_fixture(lambda: nac.Paper(width), paper, paper_scales, 21 + 10 * k)
    yield "kernels/rnn/testdata/torch_controller_small.json", controller_fixture(0.09375, 101)
    yield "kernels/rnn/testdata/torch_controller_large.json", controller_fixture(0.5, 121)


def differences(a, b, path=""):
    """Paths where two documents differ; numbers may differ by 1e-5 (another processor rounds differently)."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [d for k in a for d in differences(a[k], b[k], f"{path}.{k}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for i in range(len(a)) for d in differences(a[i], b[i], f"{path}[{i}]")]
    if isinstance(a, float) and isinstance(b, float):
        return [] if abs(a - b) <= 1e-5 * max(1, abs(a)) else [path]
    return [] if a == b else [path]


def dump(document):
    """JSON with one line a key at the upper levels, so that a change can be read."""

    def write(value, depth):
        if isinstance(value, dict) and depth < 3:
            pad = " " * (depth + 1)
            inner = ",\n".join(f"{pad}{json.dumps(k)}: {write(v, depth + 1)}" for k, v in value.items())
            return "{\n" + inner + "\n" + " " * depth + "}"
        return json.dumps(value, separators=(",", ":"))

    return write(document, 0) + "\n"


def main():
    p = argparse.ArgumentParser(description="writes the parity fixtures; the format stands at the top of this file")
    p.add_argument("--check", action="store_true", help="compare with the files, write nothing")
    args = p.parse_args()
    torch.set_num_threads(1)
    bad = 0
    for path, document in fixtures():
        full = os.path.join(ROOT, path)
        if args.check:
            with open(full) as f:
                found = differences(json.load(f), json.loads(dump(document)))
            for d in found[:5]:
                print(f"{path}: {d} differs", file=sys.stderr)
            bad += bool(found)
            continue
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w") as f:
            f.write(dump(document))
        print(path, os.path.getsize(full))
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
