#!/usr/bin/env python3
"""Writes an accuracy predictor with random weights as once-for-all's package saves it, and what PyTorch predicts with it.

  predictor.py FOLDER

Writes package.pth, a checkpoint of ofa.nas.accuracy_predictor.AccuracyPredictor, and package.json: a list of depths, kernels and expansions as digits, and the
accuracy at 224 pixels. Needs requirements-zoo.txt.
"""

import json
import os
import random
import sys

import torch
from ofa.nas.accuracy_predictor import AccuracyPredictor, MobileNetArchEncoder


def main():
    folder = sys.argv[1]
    torch.manual_seed(5)
    random.seed(5)
    encoder = MobileNetArchEncoder()
    predictor = AccuracyPredictor(encoder, hidden_size=100, n_layers=2, device="cpu")
    predictor.base_acc.data.fill_(0.71)
    samples = [encoder.random_sample_arch() for _ in range(20)]
    with torch.no_grad():
        predicted = predictor.predict_acc(samples)
    rows = []
    for sample, accuracy in zip(samples, predicted):
        depths, kernels, expansions = ("".join(str(v) for v in sample[key]) for key in ("d", "ks", "e"))
        rows.append({"depths": depths, "kernels": kernels, "expansions": expansions, "accuracy": float(accuracy)})
    with open(os.path.join(folder, "package.json"), "w") as f:
        json.dump(rows, f)
    torch.save({"state_dict": predictor.state_dict()}, os.path.join(folder, "package.pth"))


if __name__ == "__main__":
    main()
