"""NAS-Bench-101 cells on the PyTorch side: reading, printing, pruning, tensors.

A cell is (n, bits, ops): n vertices in topological order, the strict upper triangle of the adjacency matrix row by row
as a string of n(n-1)/2 digits, and the operations of the interior vertices as digits (0 conv3x3-bn-relu,
1 conv1x1-bn-relu, 2 maxpool3x3). That is also the text form `nasbench101:n:bits:ops`.
"""

import csv
import gzip
import os

import torch

MAX_NODES = 7
MAX_EDGES = 9

# Rows of the comparator's embedding table.
PAD, INPUT, CONV1X1, CONV3X3, MAXPOOL, OUTPUT = range(6)
OP_IDS = (CONV3X3, CONV1X1, MAXPOOL)  # digit of the text form -> row


def default_data():
    """The shared CSV file: below CTNAS_TABLES, else beside the repository."""
    root = os.environ.get("CTNAS_TABLES")
    if not root:
        root = os.path.join(os.path.dirname(__file__), "..", "..", "..", "shared", "data")
    return os.path.normpath(os.path.join(root, "nasbench101", "nb101_run0.csv.gz"))


def read_csv(path):
    """All cells of the table and their accuracies (test accuracy of one run, in [0, 1])."""
    cells, accuracies = [], []
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", newline="") as f:
        for row in csv.DictReader(f):
            cells.append((int(row["n"]), row["adj"], row["ops"]))
            accuracies.append(int(row["test_correct_of_9984"]) / 9984)
    return cells, accuracies


def text(cell):
    n, bits, ops = cell
    return f"nasbench101:{n}:{bits}:{ops}"


def parse(s):
    space, n, bits, ops = s.split(":")
    n = int(n)
    if space != "nasbench101" or len(bits) != n * (n - 1) // 2 or len(ops) != n - 2:
        raise ValueError(f"not a nasbench101 cell: {s}")
    return n, bits, ops


def from_edges(nodes, edges, ops):
    """The pruned cell of a graph: only vertices on a path from the first to the last stay.

    nodes: number of vertices; edges: set of (from, to), from < to; ops: digits of the interior vertices.
    Returns None where the output cannot be reached.
    """
    forward = {0}
    for v in range(1, nodes):
        if any((u, v) in edges for u in forward):
            forward.add(v)
    backward = {nodes - 1}
    for v in range(nodes - 2, -1, -1):
        if any((v, u) in edges for u in backward):
            backward.add(v)
    keep = sorted(forward & backward)
    if 0 not in keep or nodes - 1 not in keep:
        return None
    n = len(keep)
    bits = "".join(
        "1" if (keep[a], keep[b]) in edges else "0" for a in range(n) for b in range(a + 1, n)
    )
    return n, bits, "".join(str(ops[v - 1]) for v in keep[1:-1])


def tensors(cells, dtype=torch.float32):
    """The comparator's inputs, one Python step a cell, as a data loader would make them.

    Returns ids [N, 7] int64 and m [N, 7, 7], m = transpose(A) + I with A[from][to] = 1, padded to 7 vertices; a padding
    vertex has its self loop and nothing else.
    """
    ids, matrices = [], []
    for n, bits, ops in cells:
        row = [PAD] * MAX_NODES
        row[0] = INPUT
        row[n - 1] = OUTPUT
        for i, digit in enumerate(ops):
            row[i + 1] = OP_IDS[int(digit)]
        m = [[0.0] * MAX_NODES for _ in range(MAX_NODES)]
        for v in range(MAX_NODES):
            m[v][v] = 1.0
        k = 0
        for a in range(n):
            for b in range(a + 1, n):
                if bits[k] == "1":
                    m[b][a] = 1.0
                k += 1
        ids.append(row)
        matrices.append(torch.tensor(m, dtype=dtype))
    return torch.tensor(ids, dtype=torch.int64), torch.stack(matrices)
