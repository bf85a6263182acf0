#!/usr/bin/env python3
"""How far ctnas and PyTorch are from exact arithmetic, and from each other over 20 training steps; prints the table of docs/training.md.

  build/peers/bin/python scripts/peers/parity.py        needs Go; some minutes of two cores

NAS-Bench-101's best and Inception-like cells at their real size (128 channels, 32x32; batches of 4 unless --batch says otherwise), the same weights and images; PyTorch in
float32, in both orders of memory, is the peer. The error of a tensor is the norm of its difference to float64 by the norm of the latter; the median of several batches.

A ReLU or a maximum whose inputs lie within rounding falls to one side or the other. Some in a batch do, in each program others, and one of them outweighs the rounding of a
whole gradient a thousandfold. So gradients are compared with float64 twice: with a float64 that takes the decisions that the program took, which leaves the rounding, tensor by
tensor; and with one that takes its own, all gradients as one vector, beside the number of decisions that differ.

Then 20 steps of SGD (momentum 0.9, weight decay 1e-4), each on another batch, from weights as a training starts with, beside PyTorch in float32.
"""

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F

import nets

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
NETWORKS = {"nasbench101_best": "best", "nasbench101_inception": "inception"}
STEPS, ORDERS = 20, (torch.contiguous_format, torch.channels_last)


def write(path, tensors):
    """Writes float32 tensors as a safetensors file."""
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + 4 * t.numel()]}
        at += 4 * t.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            f.write(t.detach().float().contiguous().numpy().tobytes())


def read(path):
    with open(path, "rb") as f:
        data = f.read()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, e in json.loads(data[8:end]).items():
        if name != "__metadata__":
            low, high = e["data_offsets"]
            out[name] = torch.frombuffer(bytearray(data[end + low : end + high]), dtype=torch.float32).reshape(e["shape"])
    return out


def start(cell, batch, trained):
    """Weights, images and labels. trained: batch norms are not those of a start."""
    torch.manual_seed(7)
    net = nets.NASBench101(cell)
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d) and trained:
            torch.nn.init.uniform_(m.weight, 0.5, 1.5)
            torch.nn.init.normal_(m.bias, 0, 0.3)
    state = {k: v.clone() for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    return state, torch.randn(STEPS, batch, 3, 32, 32), torch.randint(10, (STEPS, batch))


def build(cell, state, dtype, order):
    net = nets.NASBench101(cell)
    net.load_state_dict(state, strict=False)
    return net.to(dtype, memory_format=order).train()


def step(net, images, labels, order):
    net.zero_grad()
    dtype = next(net.parameters()).dtype
    logits = net(images.to(dtype).contiguous(memory_format=order))
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    return logits, loss


def watch(net, given=None):
    """Notes what each ReLU and maximum decides, by the names of ctnas; or lets it decide as it is given."""
    decided = {}

    def relu(name):
        def forward(x):
            if given is not None:
                return x * given[name].to(x.dtype)
            decided[name] = x.detach() > 0
            return F.relu(x)

        return forward

    def pool(m, names):
        calls = iter(names)

        def forward(x):
            name = next(calls)
            if given is not None:
                return x.flatten(2).gather(2, given[name].flatten(2)).view(given[name].shape)
            out, decided[name] = F.max_pool2d(x, m.kernel_size, m.stride, m.padding, return_indices=True)
            return out

        return forward

    for name, m in net.named_modules():
        if isinstance(m, torch.nn.ReLU):
            m.forward = relu(name)
        elif isinstance(m, torch.nn.MaxPool2d):
            cell = net.get_submodule(name.rpartition(".")[0])
            pooled = [f"{name.removesuffix('pool')}vertex{v + 1}.pool" for v, op in enumerate(getattr(cell, "ops", ())) if not op]
            m.forward = pool(m, pooled or ["stack2.pool", "stack3.pool"])
    return decided


def run(cell, state, images, labels, dtype, order=torch.contiguous_format, given=None):
    """Logits and gradients of a batch as vectors, and the decisions."""
    net = build(cell, state, dtype, order)
    decided = watch(net, given)
    logits, _ = step(net, images, labels, order)
    found = {"logits": logits, **{"grad." + n: p.grad for n, p in net.named_parameters()}}
    return {n: t.detach().double().flatten() for n, t in found.items()}, decided


def ours(file, k):
    """The same of what ctnas wrote."""
    found, decided = {}, {}
    for name, t in file.items():
        batch, _, name = name.partition(".")
        kind, _, node = name.partition(".")
        if batch != str(k):
            continue
        node = node.replace("/", ".")
        if kind == "positive":
            decided[node] = t.permute(0, 3, 1, 2) > 0
        elif kind == "pooled":
            down = node.count(".") == 1
            decided[node] = F.max_pool2d(t.permute(0, 3, 1, 2), *((2, 2) if down else (3, 1, 1)), return_indices=True)[1]
        else:
            found[name] = t.double().flatten()
    return found, decided


def curve(cell, state, images, labels, rate, order):
    net, losses = build(cell, state, torch.float32, order), []
    optimizer = torch.optim.SGD(net.parameters(), rate, momentum=0.9, weight_decay=1e-4)
    for k in range(STEPS):
        losses.append(step(net, images[k], labels[k], order)[1].item())
        optimizer.step()
    return losses


def error(found, exact):
    return (torch.linalg.vector_norm(found - exact) / torch.linalg.vector_norm(exact)).item()


def whole(found):
    return torch.cat([t for n, t in sorted(found.items()) if n != "logits"])


class Program:
    """A program's errors, a list of batches each."""

    def __init__(self):
        self.tensors, self.own, self.flips = {}, [], []

    def add(self, batch, found, decided, exact, choices):
        same, _ = run(*batch, torch.float64, given=decided)
        for n in exact:
            self.tensors.setdefault(n, []).append(error(found[n], same[n]))
        self.own.append(error(whole(found), whole(exact)))
        self.flips.append(sum((decided[n] != c).sum().item() for n, c in choices.items() if c.dtype == torch.bool))

    def of(self, name):
        return statistics.median(self.tensors[name])


def apart(a, b):
    return max(abs(x - y) / abs(y) for x, y in zip(a, b))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--samples", type=int, default=5, help="batches whose errors' median is taken")
    p.add_argument("--rate", type=float, default=1e-6, help="of the 20 steps")
    p.add_argument("--only", choices=NETWORKS)
    p.add_argument("--test", help="the compiled tests of ./trainer, where there is no Go")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    names = [n for n in NETWORKS if args.only in (None, n)]
    rows, bad = [], False
    with tempfile.TemporaryDirectory() as folder:
        starts = {(n, trained): start(NETWORKS[n], args.batch, trained) for n in names for trained in (True, False)}
        outs = {}
        for (n, trained), (state, images, labels) in starts.items():
            more = {"rate": torch.tensor([args.rate]), "samples": torch.tensor([args.samples if trained else 0])}
            write(os.path.join(folder, n + ".in.safetensors"), {**state, "images": images.permute(0, 1, 3, 4, 2), "labels": labels, **more})
            test = [os.path.abspath(args.test), "-test.run", "TestTorchSteps"] if args.test else ["go", "test", "-count=1", "-run", "TestTorchSteps", "./trainer"]
            subprocess.run(test, cwd=ROOT, check=True, stdout=sys.stderr, env={**os.environ, "CTNAS_PARITY": folder})
            outs[n, trained] = read(os.path.join(folder, n + ".out.safetensors"))
            os.remove(os.path.join(folder, n + ".in.safetensors"))
        for n in names:
            state, images, labels = starts[n, True]
            programs = [Program() for _ in range(1 + len(ORDERS))]
            for k in range(args.samples):
                batch = NETWORKS[n], state, images[k], labels[k]
                exact, choices = run(*batch, torch.float64)
                for p, got in zip(programs, [ours(outs[n, True], k), *(run(*batch, torch.float32, order) for order in ORDERS)]):
                    p.add(batch, *got, exact, choices)
            mine, *peers = programs
            peer = min(peers, key=lambda p: statistics.median(map(statistics.median, p.tensors.values())))  # the more exact one
            ratio = {t: mine.of(t) / peer.of(t) for t in mine.tensors}
            worst = max(ratio, key=ratio.get)
            state, images, labels = starts[n, False]
            losses = [curve(NETWORKS[n], state, images, labels, args.rate, order) for order in ORDERS]
            distance = min(apart(outs[n, False]["losses"].tolist(), other) for other in losses)
            rows.append(f"| {n}, batch {args.batch} | {mine.of('logits'):.2e} / {peer.of('logits'):.2e} "
                        f"| {statistics.median(ratio.values()):.2f}, {ratio[worst]:.2f} ({worst.removeprefix('grad.')}), above 1: {sum(r > 1 for r in ratio.values())} of {len(ratio)} "
                        f"| {statistics.median(mine.own):.1e} / {' '.join(f'{statistics.median(p.own):.1e}' for p in peers)} "
                        f"| {sum(mine.flips)} / {' '.join(str(sum(p.flips)) for p in peers)} "
                        f"| {distance:.1e} ({apart(*losses):.1e}) |")  # fmt: skip
            bad |= ratio[worst] > 2 or distance > 1e-3
    print("| network | outputs, ours / PyTorch | tensors by rounding, ours by PyTorch: median, worst | all gradients, ours / PyTorch's two | ReLUs fallen otherwise | "
          "20 losses (PyTorch's two orders) |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))
    sys.exit(bad)


if __name__ == "__main__":
    main()
