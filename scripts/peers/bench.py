#!/usr/bin/env python3
"""Times the PyTorch side. See README.md.

  bench.py list                     the names
  bench.py once NAME [REPEATS]      one JSON line
  bench.py serve                    reads lines `NAME REPEATS`, answers each with one JSON line, ends at end of input

An answer is {"name": ..., "ms": [...]}: REPEATS times in milliseconds, warm-up not among them; or {"name": ...,
"error": ...}. `hello 0` answers with the versions.
"""

import argparse
import json
import os
import random
import sys
import time

# glibc gives freed memory back to the kernel and takes it again page by page for every large tensor, which costs PyTorch
# up to a third of its speed; these settings must be there before the process starts.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "-1"}


def tune_malloc(threads):
    wanted = dict(MALLOC, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    if any(os.environ.get(k) != v for k, v in wanted.items()):
        os.environ.update(wanted)
        os.execv(sys.executable, [sys.executable] + sys.argv)


class Bench:
    def __init__(self, data, fraction, encode_batch):
        self.data = data
        self.fraction = fraction
        self.encode_batch = encode_batch
        self.ready = {}

    def once(self, key, make):
        if key not in self.ready:
            self.ready[key] = make()
        return self.ready[key]

    def table(self):
        return self.once("table", lambda: cells.read_csv(self.data))

    def labelled(self, n, seed):
        """n random cells and accuracies."""
        all_cells, accuracy = self.table()
        index = random.Random(seed).sample(range(len(all_cells)), n)
        return [all_cells[i] for i in index], [accuracy[i] for i in index]

    def repeat(self, f, repeats, warmup):
        for _ in range(warmup):
            f()
        ms = []
        for _ in range(repeats):
            begin = time.perf_counter()
            f()
            ms.append((time.perf_counter() - begin) * 1e3)
        return {"ms": ms}

    def comparator(self):
        def make():
            torch.manual_seed(1)
            return nac.Released()

        return self.once("comparator", make)

    def nac_step(self, repeats, encode_once):
        def make():
            torch.manual_seed(1)
            labelled, accuracy = self.labelled(schedule.LABELS, 1)
            return cells.tensors(labelled), torch.tensor(accuracy), nac.Released()

        graphs, accuracy, model = self.once("nac_step", make)
        optimizer = nac.adam(model)

        def run():
            # Choosing and pairing the batch is part of a step, as it is in training.
            index = torch.randperm(len(accuracy))[:256]
            perm = torch.randperm(256)
            if encode_once:
                a = accuracy[index]
                loss = nac.step_encode_once(model, optimizer, nac.select(graphs, index), perm, nac.targets(a, perm))
            else:
                partner = index[perm]
                target = (accuracy[index] > accuracy[partner]).float()
                g0, g1 = nac.select(graphs, index), nac.select(graphs, partner)
                loss = nac.step(model, optimizer, g0, g1, target)
            return loss.item()

        return self.repeat(run, repeats, 20)

    def nac_step_released_256(self, repeats):
        return self.nac_step(repeats, False)

    def nac_step_released_256_encode_once(self, repeats):
        return self.nac_step(repeats, True)

    def space_tensors(self):
        return self.once("space", lambda: cells.tensors(self.table()[0]))

    def encode_space_released(self, repeats):
        model, graphs = self.comparator(), self.space_tensors()
        part = tuple(t[: 8 * self.encode_batch] for t in graphs)
        nac.encode_space(model, part, self.encode_batch)
        return self.repeat(lambda: nac.encode_space(model, graphs, self.encode_batch), repeats, 0)

    def prepare_space_released(self, repeats):
        all_cells = self.table()[0]
        return self.repeat(lambda: cells.tensors(all_cells), repeats, 0)

    def rank_space_released(self, repeats):
        """From the cells in memory to a ranking: tensors, encodings, the head's score u(f), sort."""
        all_cells, model = self.table()[0], self.comparator()

        @torch.no_grad()
        def run():
            graphs = cells.tensors(all_cells)
            f = nac.encode_space(model, graphs, self.encode_batch)
            score = f @ model.fc.weight[0, : f.shape[1]]
            return torch.argsort(score, descending=True)

        return self.repeat(run, repeats, 0)

    def controller_parts(self):
        def make():
            torch.manual_seed(1)
            model = controller.Controller()
            baseline = cells.tensors(self.labelled(1, 2)[0])
            return model, controller.adam(model), self.comparator(), baseline

        return self.once("controller", make)

    def controller_iteration(self, repeats):
        parts = self.controller_parts()
        return self.repeat(lambda: controller.iteration(*parts), repeats, 20)

    def controller_iteration_lean(self, repeats):
        model, _, comparator, baseline = self.controller_parts()
        optimizer = controller.adam(model, fused=True)
        return self.repeat(lambda: controller.iteration(model, optimizer, comparator, baseline, lean=True), repeats, 20)

    def controller_rollout(self, repeats):
        model = self.controller_parts()[0]

        @torch.no_grad()
        def run():
            model.rollout()

        return self.repeat(run, repeats, 20)

    def search_released_schedule(self, repeats):
        out, parts = [], []
        for r in range(repeats):
            picked, accuracy = self.labelled(schedule.LABELS + schedule.VALIDATION, 2020 + r)
            n = schedule.LABELS
            search = schedule.Search((picked[:n], accuracy[:n]), (picked[n:], accuracy[n:]), 2020 + r)
            clock = search.run(self.fraction)
            out.append(clock.whole(schedule.COUNTS) * 1e3)
            parts.append({k: {"seconds": s, "runs": n} for k, (s, n) in clock.parts.items()})
        return {"ms": out, "fraction": self.fraction, "extrapolated": self.fraction < 1, "parts": parts}

    def hello(self, _):
        return {"version": f"PyTorch {torch.__version__}", "threads": torch.get_num_threads(), "malloc": MALLOC}

    def answer(self, name, repeats):
        if name not in NAMES and name != "hello":
            return {"name": name, "error": "unknown name"}
        try:
            return {"name": name, **getattr(self, name)(repeats)}
        except Exception as err:  # the driver must get an answer to every line
            return {"name": name, "error": f"{type(err).__name__}: {err}"}


NAMES = (
    "nac_step_released_256",
    "nac_step_released_256_encode_once",
    "encode_space_released",
    "prepare_space_released",
    "rank_space_released",
    "controller_iteration",
    "controller_iteration_lean",
    "controller_rollout",
    "search_released_schedule",
)


def fraction(s):
    f = float(s)
    if not 0 < f <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1")
    return f


def main():
    p = argparse.ArgumentParser(description="times the PyTorch side, see README.md")
    p.add_argument("--data", help="NAS-Bench-101 CSV (default: below CTNAS_DATA, else ../shared/data)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--fraction", type=fraction, default=1.0, help="part of the search schedule that is run; the rest is extrapolated")
    p.add_argument("--encode-batch", type=int, default=1024)
    p.add_argument("command", choices=("list", "once", "serve"))
    p.add_argument("name", nargs="?")
    p.add_argument("repeats", nargs="?", type=int, default=1)
    args = p.parse_args()
    if args.command == "list":
        print("\n".join(NAMES))
        return
    tune_malloc(args.threads)

    global torch, cells, nac, controller, schedule
    import torch

    import cells
    import controller
    import nac
    import schedule

    torch.set_num_threads(args.threads)
    bench = Bench(args.data or cells.default_data(), args.fraction, args.encode_batch)
    if args.command == "once":
        print(json.dumps(bench.answer(args.name, args.repeats)))
        return
    for line in sys.stdin:
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not words[1].isdigit():
            print(json.dumps({"name": words[0], "error": "want: NAME REPEATS"}), flush=True)
            continue
        print(json.dumps(bench.answer(words[0], int(words[1]))), flush=True)


if __name__ == "__main__":
    main()
