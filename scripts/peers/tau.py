#!/usr/bin/env python3
"""How well PyTorch's released comparator ranks after the released training, on the labels of `ctnas rank --preset released`.

  tau.py --data FILE.csv.gz [--seed 0] [--seeds 4] [--train 423] [--judge 20000] [--threads 2]

For each seed the labelled cells are the ones that `ctnas rank` draws (Philox, see kernels/philox). Trains 1,000 epochs and prints
Kendall's tau-b on cells outside the labels (a random part of them: the standard error of tau over 20,000 cells is about 0.003).
"""

import argparse

import numpy as np
import torch

import cells
import nac
import schedule

PURPOSE_SAMPLE = 1


def philox(seed, purpose, step, blocks):
    """Blocks of four uint32, as kernels/philox draws them: counter (index, index >> 32, step, purpose), ten rounds."""
    mask = np.uint64(0xFFFFFFFF)
    index = np.arange(blocks, dtype=np.uint64)
    c = [index & mask, index >> np.uint64(32), np.full(blocks, step, np.uint64), np.full(blocks, purpose, np.uint64)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & mask, (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & mask]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, 1).reshape(-1)


def permutation(seed, n):
    """philox.New(seed, PurposeSample, 0).Perm(n)."""
    bits = philox(seed, PURPOSE_SAMPLE, 0, (n + 1) // 2)
    draws = (bits[0::2] << np.uint64(32)) | bits[1::2]
    order = [0] * n
    for i in range(n):
        j = int(draws[i]) % (i + 1)  # a draw is rejected with probability below 2^-44
        order[i] = order[j]
        order[j] = i
    return order


def tau_b(x, y):
    """Kendall's tau-b by its definition."""
    concordant = ties_x = ties_y = 0
    for i in range(len(x) - 1):
        a, b = np.sign(x[i + 1 :] - x[i]), np.sign(y[i + 1 :] - y[i])
        concordant += float((a * b).sum())
        ties_x += int((a == 0).sum())
        ties_y += int((b == 0).sum())
    pairs = len(x) * (len(x) - 1) // 2
    return concordant / np.sqrt(float(pairs - ties_x) * float(pairs - ties_y))


def train(graphs, accuracy, epochs):
    model = nac.Released()
    optimizer = nac.adam(model)
    for _ in range(epochs):
        order = torch.randperm(len(accuracy))
        for i in range(0, len(order), schedule.BATCH):
            index = order[i : i + schedule.BATCH]
            perm = torch.randperm(len(index))
            part = nac.select(graphs, index)
            nac.step_encode_once(model, optimizer, part, perm, nac.targets(accuracy[index], perm))
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--train", type=int, default=423)
    parser.add_argument("--judge", type=int, default=20000)
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    table, accuracies = cells.read_csv(args.data)
    taus = []
    for seed in range(args.seed, args.seed + args.seeds):
        torch.manual_seed(seed)
        order = permutation(seed, len(table))
        labelled, judged = order[: args.train], order[args.train : args.train + args.judge]
        model = train(cells.tensors([table[i] for i in labelled]), torch.tensor([accuracies[i] for i in labelled]), args.epochs)
        f = nac.encode_space(model, cells.tensors([table[i] for i in judged]), 1024)
        weight = model.fc.weight.detach()[0]
        width = len(weight) // 2
        score = (f @ (weight[:width] - weight[width:])).numpy()  # a cell's standing, averaged over both places in a pair
        taus.append(tau_b(score, np.array([accuracies[i] for i in judged])))
        print(f"seed {seed}: tau-b {taus[-1]:.4f}", flush=True)
    print(f"mean of {len(taus)} seeds: {np.mean(taus):.4f}, sd {np.std(taus, ddof=1) if len(taus) > 1 else 0:.4f}")


if __name__ == "__main__":
    main()
