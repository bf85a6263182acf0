"""A command for --labels exec: that needs Python alone.

    ctnas search --space nasbench101-v5 --budget 30 --init 12 --per-round 6 --out runs/plain \
        --labels 'exec:python3 docs/examples/exec/plain.py {json}?epochs=6&stop=median'

It reads what ctnas says of the candidate, learns two spirals by a network of one hidden layer, which is the wider the
more convolutions the cell has, tells its accuracy after each epoch, and at the end what it came to. It goes on where
it was stopped, from a file in the candidate's folder.
"""

import json
import math
import os
import random
import sys

with open(sys.argv[1]) as f:
    candidate = json.load(f)
folder, epochs = os.path.dirname(sys.argv[1]), candidate.get("epochs", 6)
width = 2 + 2 * sum("conv" in layer["operation"] for layer in candidate["layers"])
chance = random.Random(candidate["seed"])


def points(n):
    """Points of two spirals, each with its class, -1 or 1."""
    for i in range(n):
        turn, arm = chance.random(), 2 * (i % 2) - 1
        angle = 9 * turn + (math.pi if arm > 0 else 0)
        yield (turn * math.cos(angle), turn * math.sin(angle), 1.0), arm


train, validation, test = list(points(200)), list(points(100)), list(points(100))
hidden = [[chance.gauss(0, 2) for _ in range(3)] for _ in range(width)]
out = [chance.gauss(0, 0.5) for _ in range(width)]


def forward(x):
    h = [math.tanh(sum(a * b for a, b in zip(row, x))) for row in hidden]
    return h, math.tanh(sum(a * b for a, b in zip(out, h)))


def accuracy(of):
    return sum((forward(x)[1] > 0) == (y > 0) for x, y in of) / len(of)


begun, checkpoint = 0, os.path.join(folder, "checkpoint.json")
if os.path.exists(checkpoint):
    with open(checkpoint) as f:
        begun, hidden, out = json.load(f)

for epoch in range(begun + 1, epochs + 1):
    for x, y in train:
        h, z = forward(x)
        slope = 0.1 * (y - z) * (1 - z * z)
        for j in range(width):
            back = slope * out[j] * (1 - h[j] * h[j])
            out[j] += slope * h[j]
            for k in range(3):
                hidden[j][k] += back * x[k]
    print(json.dumps({"epoch": epoch, "accuracy": accuracy(validation)}), flush=True)
    with open(checkpoint + ".new", "w") as f:
        json.dump([epoch, hidden, out], f)
    os.replace(checkpoint + ".new", checkpoint)

print(json.dumps({"accuracy": accuracy(validation), "test_accuracy": accuracy(test), "width": width}))
