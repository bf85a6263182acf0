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
import statistics
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


def format_name(work):
    return str(work.format).removeprefix("torch.")


class Bench:
    """device: "cpu" or "cuda". compiled: models and steps go through torch.compile with CUDA graphs, whose time is warm-up."""

    def __init__(self, data, fraction, encode_batch, device="cpu", compiled=False, images=None, threads=2):
        self.data = data
        self.images = images
        self.threads = threads
        self.fraction = fraction
        self.encode_batch = encode_batch
        self.device = device
        self.compiled = compiled
        self.ready = {}

    def compile(self, f):
        return torch.compile(f, mode="max-autotune") if self.compiled else f

    def tensors(self, some):
        return tuple(t.to(self.device) for t in cells.tensors(some))

    def wait(self):
        if self.device != "cpu":
            torch.cuda.synchronize()

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
            self.wait()
            begin = time.perf_counter()
            f()
            self.wait()
            ms.append((time.perf_counter() - begin) * 1e3)
        return {"ms": ms}

    def comparator(self):
        def make():
            torch.manual_seed(1)
            model = nac.Released().to(self.device)
            model.encode = self.compile(model.encode)
            return model

        return self.once("comparator", make)

    def nac_step(self, repeats, encode_once):
        def make():
            torch.manual_seed(1)
            labelled, accuracy = self.labelled(schedule.LABELS, 1)
            return self.tensors(labelled), torch.tensor(accuracy, device=self.device), nac.Released().to(self.device)

        graphs, accuracy, model = self.once("nac_step", make)
        optimizer = nac.adam(model)

        def run():
            # Choosing and pairing the batch is part of a step, as it is in training.
            index = torch.randperm(len(accuracy), device=self.device)[:256]
            perm = torch.randperm(256, device=self.device)
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

    def batch_step(self, key, repeats, pairs, model):
        """A step over a batch of `pairs` cells paired with its permutation; data on the device, both sides encoded."""

        def make():
            torch.manual_seed(1)
            picked, accuracy = self.labelled(pairs, 3)
            m = model().to(self.device)
            return self.tensors(picked), torch.tensor(accuracy, device=self.device), m, nac.adam(m), self.compile(nac.forward_loss)

        graphs, accuracy, m, optimizer, loss_of = self.once(key, make)

        def run():
            partner = torch.randperm(pairs, device=self.device)
            target = (accuracy > accuracy[partner]).float()
            optimizer.zero_grad()
            loss = loss_of(m, graphs, nac.select(graphs, partner), target)
            loss.backward()
            optimizer.step()
            return loss

        return self.repeat(run, repeats, 20)

    def nac_step_released_512(self, repeats):
        return self.batch_step("step512", repeats, 512, nac.Released)

    def nac_step_65536_w64(self, repeats):
        return self.batch_step("step64", repeats, 65536, lambda: nac.Released(2, 64))

    def nac_step_65536_w256(self, repeats):
        return self.batch_step("step256", repeats, 65536, lambda: nac.Released(2, 256))

    def space_tensors(self):
        return self.once("space", lambda: self.tensors(self.table()[0]))

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
            graphs = self.tensors(all_cells)
            f = nac.encode_space(model, graphs, self.encode_batch)
            score = f @ model.fc.weight[0, : f.shape[1]]
            return torch.argsort(score, descending=True)

        return self.repeat(run, repeats, 0)

    def controller_parts(self):
        def make():
            torch.manual_seed(1)
            model = controller.Controller().to(self.device)
            baseline = self.tensors(self.labelled(1, 2)[0])
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
            search = schedule.Search((picked[:n], accuracy[:n]), (picked[n:], accuracy[n:]), 2020 + r, self.device)
            clock = search.run(self.fraction)
            out.append(clock.whole(schedule.COUNTS) * 1e3)
            parts.append({k: {"seconds": s, "runs": n} for k, (s, n) in clock.parts.items()})
        return {"ms": out, "fraction": self.fraction, "extrapolated": self.fraction < 1, "parts": parts}

    def train_step(self, name, repeats):
        if self.device == "cpu":
            return self.faster_order(name, lambda last: train.Step(name, self.device, last), repeats)
        step = self.once(name, lambda: train.Step(name, self.device, True, self.compiled))
        return {**self.repeat(lambda: step.run().item(), repeats, 2), "format": format_name(step)}

    def faster_order(self, name, make, repeats):
        """Work in the order of memory that is the faster one, NCHW or channels_last: both run first. make takes whether it is
        the latter; what it makes has run(), and says the order as its format."""

        def choose():
            made = [make(last) for last in (False, True)]
            times = [statistics.median(self.repeat(m.run, 3, 2)["ms"]) for m in made]
            return made[times.index(min(times))]

        work = self.once(name, choose)
        return {**self.repeat(lambda: float(work.run()), repeats, 2), "format": format_name(work)}

    def supernet_ofa_step(self, repeats):
        import elastic  # which alone needs once-for-all's package

        return self.faster_order("supernet_ofa_step", elastic.Step, repeats)

    def supernet_ofa_label(self, repeats):
        import elastic

        return self.faster_order("supernet_ofa_label", elastic.Label, repeats)

    def supernet_darts_step(self, repeats):
        return self.faster_order("supernet_darts_step", darts.Step, repeats)

    def photographs(self, way, repeats):
        """Images from JPEG files; a time is that of photographs.IMAGES of them."""
        work = self.once(way, lambda: photographs.open_way(way, self.images, self.threads))
        return {"ms": [work.run() * 1e3 for _ in range(repeats)]}

    def hello(self, _):
        where = self.device if self.device == "cpu" else torch.cuda.get_device_name()
        mode = "torch.compile" if self.compiled else "eager"
        return {"version": f"PyTorch {torch.__version__} {mode}, {where}", "threads": torch.get_num_threads(), "malloc": MALLOC}

    def answer(self, name, repeats):
        if name not in NAMES and name != "hello":
            return {"name": name, "error": "unknown name"}
        try:
            if name.startswith("train_"):
                return {"name": name, **self.train_step(name, repeats)}
            if name.startswith("jpeg_rrc224_"):
                return {"name": name, **self.photographs(name.removeprefix("jpeg_rrc224_"), repeats)}
            return {"name": name, **getattr(self, name)(repeats)}
        except Exception as err:  # the driver must get an answer to every line
            return {"name": name, "error": f"{type(err).__name__}: {err}"}


NAMES = (
    "nac_step_released_256",
    "nac_step_released_256_encode_once",
    "nac_step_released_512",
    "nac_step_65536_w64",
    "nac_step_65536_w256",
    "encode_space_released",
    "prepare_space_released",
    "rank_space_released",
    "controller_iteration",
    "controller_iteration_lean",
    "controller_rollout",
    "search_released_schedule",
    "train_nb101_best",
    "train_nb101_inception",
    "train_nb101_small",
    "train_mobilenetv3_large",
    "train_mobilenetv2_1.4",
    "supernet_ofa_step",
    "supernet_ofa_label",
    "supernet_darts_step",
    "jpeg_rrc224_pillow",
    "jpeg_rrc224_tensor",
    "jpeg_rrc224_dataloader",
)


def fraction(s):
    f = float(s)
    if not 0 < f <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1")
    return f


def main():
    p = argparse.ArgumentParser(description="times the PyTorch side, see README.md")
    p.add_argument("--data", help="NAS-Bench-101 CSV (default: below CTNAS_TABLES, else ../shared/data)")
    p.add_argument("--images", help="folder of JPEG files, for jpeg_rrc224")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--fraction", type=fraction, default=1.0, help="part of the search schedule that is run; the rest is extrapolated")
    p.add_argument("--encode-batch", type=int, help="graphs at a time (default: 1,024, on a GPU 65,536)")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    p.add_argument("--compile", action="store_true", help="torch.compile in place of eager")
    p.add_argument("command", choices=("list", "once", "serve"))
    p.add_argument("name", nargs="?")
    p.add_argument("repeats", nargs="?", type=int, default=1)
    args = p.parse_args()
    if args.command == "list":
        print("\n".join(NAMES))
        return
    tune_malloc(args.threads)

    global torch, cells, nac, controller, darts, photographs, schedule, train
    import torch

    import cells
    import controller
    import darts
    import nac
    import photographs
    import schedule
    import train

    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("high")  # TF32 where the GPU has it
    batch = args.encode_batch or (1024 if args.device == "cpu" else 65536)
    bench = Bench(args.data or cells.default_data(), args.fraction, batch, args.device, args.compile, args.images, args.threads)
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
