#!/usr/bin/env python3
"""How far ctnas and PyTorch are from exact arithmetic, and from each other over 20 training steps; prints the table of docs/training.md.

  build/peers/bin/python scripts/peers/parity.py        needs Go; some minutes of two cores

NAS-Bench-101's best and Inception-like cells at their real size (128 channels, 32x32; batches of 8 unless --batch says otherwise), the same weights and images: PyTorch in float64 is the exact
result, PyTorch in float32 in both orders of memory the peer. The error of a tensor is the norm of the difference by the norm of the exact one, and of several
batches the median: a ReLU or a maximum that falls to the other side, of which a layer has about one a batch, makes a late gradient's error a hundred times larger, in
both programs, and which batches it meets is chance. Then 20 steps of SGD
(momentum 0.9, weight decay 1e-4), each on another batch, beside PyTorch in float32.
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


def start(cell, batch):
    """Weights, batch norms that are not those of a start, images and labels."""
    torch.manual_seed(7)
    net = nets.NASBench101(cell)
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(m.weight, 0.5, 1.5)
            torch.nn.init.normal_(m.bias, 0, 0.3)
    state = {k: v.clone() for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    return state, torch.randn(STEPS, batch, 3, 32, 32), torch.randint(10, (STEPS, batch))


def step(net, images, labels, order):
    net.zero_grad()
    dtype = next(net.parameters()).dtype
    logits = net(images.to(dtype).contiguous(memory_format=order))
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    return logits, loss


def build(cell, state, dtype, order):
    net = nets.NASBench101(cell)
    net.load_state_dict(state, strict=False)
    return net.to(dtype, memory_format=order).train()


def sampled(cell, state, images, labels, samples, dtype, order=torch.contiguous_format):
    """Logits and gradients of the first batches, by name a list of vectors."""
    net, found = build(cell, state, dtype, order), {}
    for k in range(samples):
        logits, _ = step(net, images[k], labels[k], order)
        for name, t in (("logits", logits), *(("grad." + n, p.grad) for n, p in net.named_parameters())):
            found.setdefault(name, []).append(t.detach().double().flatten())
    return found


def curve(cell, state, images, labels, rate, order):
    net, losses = build(cell, state, torch.float32, order), []
    optimizer = torch.optim.SGD(net.parameters(), rate, momentum=0.9, weight_decay=1e-4)
    for k in range(STEPS):
        losses.append(step(net, images[k], labels[k], order)[1].item())
        optimizer.step()
    return losses


def error(found, exact):
    """The median of the batches' errors."""
    return statistics.median((torch.linalg.vector_norm(f - e) / torch.linalg.vector_norm(e)).item() for f, e in zip(found, exact))


def whole(found, exact):
    """The error of all gradients as one vector."""
    names = [n for n in exact if n.startswith("grad.")]
    return error(*([torch.cat([of[n][k] for n in names]) for k in range(len(of[names[0]]))] for of in (found, exact)))


def apart(a, b):
    return max(abs(x - y) / abs(y) for x, y in zip(a, b))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--samples", type=int, default=9, help="batches whose errors' median is taken")
    p.add_argument("--rate", type=float, default=0.002, help="of the 20 steps")
    p.add_argument("--only", choices=NETWORKS)
    p.add_argument("--test", help="the compiled tests of ./trainer, where there is no Go")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    names = [n for n in NETWORKS if args.only in (None, n)]
    rows, bad = [], False
    with tempfile.TemporaryDirectory() as folder:
        starts = {n: start(NETWORKS[n], args.batch) for n in names}
        for n, (state, images, labels) in starts.items():
            more = {"rate": torch.tensor([args.rate]), "samples": torch.tensor([args.samples])}
            write(os.path.join(folder, n + ".in.safetensors"), {**state, "images": images.permute(0, 1, 3, 4, 2), "labels": labels, **more})
        test = [os.path.abspath(args.test), "-test.run", "TestTorchSteps"] if args.test else ["go", "test", "-count=1", "-run", "TestTorchSteps", "./trainer"]
        subprocess.run(test, cwd=ROOT, check=True, stdout=sys.stderr, env={**os.environ, "CTNAS_PARITY": folder})
        for n, (state, images, labels) in starts.items():
            cell, file = NETWORKS[n], read(os.path.join(folder, n + ".out.safetensors"))
            exact = sampled(cell, state, images, labels, args.samples, torch.float64)
            ours = {k: [file[f"{i}.{k}"].double().flatten() for i in range(args.samples)] for k in exact}
            peers = [sampled(cell, state, images, labels, args.samples, torch.float32, order) for order in ORDERS]
            peer = min(peers, key=lambda p: whole(p, exact))  # the more exact one
            ratio = {k: error(ours[k], exact[k]) / error(peer[k], exact[k]) for k in exact}
            worst = max(ratio, key=ratio.get)
            losses = [curve(cell, state, images, labels, args.rate, order) for order in ORDERS]
            distance = min(apart(file["losses"].tolist(), other) for other in losses)
            rows.append(f"| {n}, batch {args.batch} | {error(ours['logits'], exact['logits']):.2e} / {error(peer['logits'], exact['logits']):.2e} "
                        f"| {whole(ours, exact):.2e} / {whole(peer, exact):.2e} "
                        f"| {ratio[worst]:.2f} ({worst.removeprefix('grad.')}) | {sum(r > 1 for r in ratio.values())} of {len(ratio)} "
                        f"| {distance:.1e} ({apart(*losses):.1e}) |")  # fmt: skip
            bad |= ratio[worst] > 2 or distance > 1e-3
    print("| network | outputs, ours / PyTorch | all gradients, ours / PyTorch | worst tensor, ours by PyTorch | tensors above PyTorch | 20 losses (PyTorch's two orders) |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))
    sys.exit(bad)


if __name__ == "__main__":
    main()
