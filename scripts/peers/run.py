#!/usr/bin/env python3
"""Runs the same work in ctnas and in PyTorch, interleaved, and writes build/peers.json, anew after every row. Standard library only.

Both programs are started once and answer lines `NAME REPEATS` with {"name": ..., "ms": [...]}; see README.md. One that ends, hangs or answers nonsense
costs its row and is started again for the next.
"""

import argparse
import json
import math
import os
import platform
import random
import shlex
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))


class Row:
    """One line of the table.

    repeats: (ours, peer) in each block; ask: the names (ours, peer) that are asked for where they differ from the row's; compiled:
    on a GPU --compile adds a second line beside torch.compile.
    """

    def __init__(self, name, shape, repeats, ask=None, compiled=False):
        self.name, self.shape, self.repeats, self.compiled = name, shape, repeats, compiled
        self.ask = ask or (name, name)


NAC = "256 pairs, 4 layers, width 128"
SPACE = "423,624 cells, 4 layers, width 128"
# name, shape, batch on the CPU and on a GPU, repeats of a block on the CPU
TRAINING = [
    ("train_nb101_best", "training step, NAS-Bench-101 best cell, 128 channels, 32x32", 8, 256, (6, 6)),
    ("train_nb101_inception", "training step, NAS-Bench-101 Inception-like cell, 128 channels, 32x32", 8, 256, (20, 20)),
    ("train_nb101_small", "training step, NAS-Bench-101 best cell, 16 channels, 32x32", 32, 256, (10, 10)),
    ("train_mobilenetv3_large", "training step, 224x224", 16, 256, (10, 10)),
    ("train_mobilenetv2_1.4", "training step, 224x224", 16, 256, (6, 6)),
]
PHOTOGRAPHS = "1,024 JPEG photographs to random crops of 224x224, mirrored, normalised; as many workers as threads"
SUPERNET = "elastic MobileNetV3 of width 1.0"
ROWS = [
    Row("nac_step_released_256", NAC + "; ours encodes each graph once, equal unfolding trees shared, first layer by table (exact)", (60, 60)),
    Row(
        "nac_step_released_256_plain",
        NAC + "; both sides of each pair encoded in both programs, nothing shared (ours: first layer by table)",
        (60, 60),
        ("nac_step_released_256_plain", "nac_step_released_256"),
    ),
    Row(
        "nac_step_released_256_encode_once",
        NAC + "; each graph encoded once in both programs",
        (60, 60),
        ("nac_step_released_256", "nac_step_released_256_encode_once"),
    ),
    Row("encode_space_released", SPACE + ", tensors ready; ours shares equal unfolding trees (exact)", (5, 1)),
    Row(
        "encode_space_released_unshared",
        SPACE + ", tensors ready; nothing shared",
        (1, 1),
        ("encode_space_released_unshared", "encode_space_released"),
    ),
    Row("rank_space_released", SPACE + "; ours from the cached table's file, peer from cells in memory, to a ranking", (2, 1)),
    Row("controller_iteration", "18 decisions, batch 1, LSTM 64; peer with torch.distributions", (200, 60)),
    Row(
        "controller_iteration_lean",
        "18 decisions, batch 1, LSTM 64; peer with the least PyTorch work we found",
        (200, 60),
        ("controller_iteration", "controller_iteration_lean"),
    ),
    Row("search_released_schedule", "1,000 comparator epochs, 10,000 iterations, 423 labels", (1, 1)),
    *(Row(name, f"{shape}, batch {batch}; peer in the faster order of memory", repeats) for name, shape, batch, _, repeats in TRAINING),
    Row("supernet_ofa_step", SUPERNET + "; an update by the largest, the smallest and 2 random paths, batch 8, 128x128; peer: ofa, the faster order", (4, 2)),
    Row(
        "supernet_ofa_label",
        SUPERNET + "; labels of these 4 networks: statistics made anew on 500 images, 500 others classified, 32x32, 10 classes",
        (4, 2),
    ),
    Row(
        "supernet_darts_step",
        "DARTS's search network, 8 cells, 16 channels: an update of α in first order and one of the weights, batch 16 each, 32x32; peer: the faster order",
        (4, 2),
    ),
    *(Row(f"jpeg_rrc224_{way}", PHOTOGRAPHS, (3, 3), ("jpeg_rrc224", f"jpeg_rrc224_{way}")) for way in ("pillow", "tensor", "dataloader")),
]


# On a GPU, with the data on it in both programs.
GPU_ROWS = [
    Row("nac_step_released_512", "512 pairs, 4 layers, width 128; ours encodes each graph once (exact)", (200, 100), compiled=True),
    Row("nac_step_65536_w64", "65,536 pairs, 2 layers, width 64; ours encodes each graph once (exact)", (50, 20), compiled=True),
    Row("nac_step_65536_w256", "65,536 pairs, 2 layers, width 256; ours encodes each graph once (exact)", (50, 20), compiled=True),
    Row("encode_space_released", SPACE + "; ours shares equal unfolding trees (exact)", (50, 10), compiled=True),
    Row("controller_iteration", "18 decisions, batch 1, LSTM 64; peer with torch.distributions", (2000, 60)),
    Row(
        "controller_iteration_lean",
        "18 decisions, batch 1, LSTM 64; peer with the least PyTorch work we found",
        (2000, 60),
        ("controller_iteration", "controller_iteration_lean"),
    ),
    Row("search_released_schedule", "1,000 comparator epochs, 10,000 iterations, 423 labels", (1, 1)),
    *(Row(name, f"{shape}, batch {batch}; peer bf16 autocast, channels_last", (50, 50), compiled=True) for name, shape, _, batch, _ in TRAINING),
]


class Refused(Exception):
    """The program does not know the name or failed at it."""


class Broken(Exception):
    """The program ended, was ended because its time was up, or answered what is no answer. It is started again when it is asked again."""


class Server:
    """One of the two programs, started when it is first asked. deadline: when it is ended, by time.monotonic; None: never."""

    def __init__(self, who, command, environment, deadline=None):
        self.who, self.command, self.environment, self.deadline = who, command, environment, deadline
        self.process = None

    def ask(self, name, repeats):
        """The answer's document. Raises Refused or Broken."""
        if self.process is None:
            try:
                self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment)
            except OSError as err:
                raise Broken(f"{self.who}: cannot start {self.command[0]}: {err.strerror}")
        alarm = None
        if self.deadline is not None:
            alarm = threading.Timer(max(0.0, self.deadline - time.monotonic()), self.process.kill)
            alarm.start()
        try:
            self.process.stdin.write(f"{name} {repeats}\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            if alarm:
                alarm.cancel()
        if not line:
            status = self.end()
            if self.deadline is not None and time.monotonic() >= self.deadline:
                raise Broken(f"{self.who}: the time was up")
            raise Broken(f"{self.who}: ended with status {status} at {name}")
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            self.end()
            raise Broken(f"{self.who}: not JSON: {line.strip()[:200]}")
        if "error" in answer:
            raise Refused(f"{self.who}: {answer['error']}")
        return answer

    def times(self, name, repeats):
        answer = self.ask(name, repeats)
        for key in ("ms", "wall_ms"):
            ms = answer.get(key, [1.0] if key == "wall_ms" else None)
            if answer.get("name") != name or not ms or not all(isinstance(t, (int, float)) and t > 0 for t in ms):
                self.end()
                raise Broken(f"{self.who}: bad answer to {name} {repeats}: {json.dumps(answer)[:200]}")
        return answer

    def end(self):
        """Ends the program and returns its status."""
        self.process.kill()
        status = self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process = None
        return status

    def cpu(self):
        """CPU seconds used so far by the program and the processes that it started, such as workers that load images."""
        return process_cpu(self.process.pid) if self.process else 0.0

    def close(self):
        if self.process is None:
            return
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process = None


def process_cpu(pid):
    """CPU seconds of a process, its children that ended and those that run; 0 where it is not there."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        children = []
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                children += f.read().split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(map(process_cpu, children))


def machine_cpu():
    """(busy, all) CPU seconds of the machine, or None where /proc does not say."""
    try:
        with open("/proc/stat") as f:
            v = [int(x) for x in f.readline().split()[1:9]]
    except OSError:
        return None
    hz = os.sysconf("SC_CLK_TCK")
    return (sum(v) - v[3] - v[4]) / hz, sum(v) / hz


class Load:
    """Share of the machine that other programs took while ours ran: their work disturbs the times."""

    def __init__(self):
        self.other, self.all = 0.0, 0.0

    def watch(self, servers, f):
        machine, own = machine_cpu(), sum(s.cpu() for s in servers)
        result = f()
        after = machine_cpu()
        if machine and after:
            own = sum(s.cpu() for s in servers) - own
            self.other += max(0.0, after[0] - machine[0] - own)
            self.all += after[1] - machine[1]
        return result

    def share(self):
        return self.other / self.all if self.all else 0.0


def ratio_interval(ours, theirs, resamples=2000, seed=1):
    """(ratio of the medians theirs/ours, 2.5 % and 97.5 % bootstrap quantiles).

    ours, theirs: blocks of times. Blocks are drawn together (they stood side by side), then times within each block.
    """

    def median(blocks):
        return statistics.median(t for block in blocks for t in block)

    rng = random.Random(seed)
    ratios = []
    for _ in range(resamples):
        drawn = [rng.randrange(len(ours)) for _ in ours]
        a = median(rng.choices(ours[k], k=len(ours[k])) for k in drawn)
        b = median(rng.choices(theirs[k], k=len(theirs[k])) for k in drawn)
        ratios.append(b / a)
    ratios.sort()
    low = ratios[math.floor(0.025 * (resamples - 1))]
    high = ratios[math.ceil(0.975 * (resamples - 1))]
    return median(theirs) / median(ours), low, high


def measure(row, ours, peer, blocks, pause, load):
    """The row's entry of peers.json. Both sides are measured by the clock on the wall; where ours also says its time by a GPU's, that stands beside."""
    a, b, gpu, note = [], [], [], {}
    for _ in range(blocks):
        for server, name, repeats, into in zip((ours, peer), row.ask, row.repeats, (a, b)):
            time.sleep(pause)  # the other program's idle threads stop spinning
            answer = load.watch((ours, peer), lambda: server.times(name, repeats))
            into.append(answer.get("wall_ms", answer["ms"]))
            if "wall_ms" in answer:
                gpu += answer["ms"]
            if "format" in answer:
                note["note"] = f"{server.who}: {answer['format']}"
            if answer.get("extrapolated"):
                note["note"] = f"{server.who} ran {answer['fraction']:.0%} of the schedule, extrapolated part by part"
    ratio, low, high = ratio_interval(a, b)
    if gpu:
        note["ours_gpu_ms"] = statistics.median(gpu)
    return {
        "name": row.name,
        "shape": row.shape,
        "ours_ms": statistics.median(t for block in a for t in block),
        "peer_ms": statistics.median(t for block in b for t in block),
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "blocks": blocks,
        "repeats": list(row.repeats),
        "other_load": round(load.share(), 4),
        **note,
    }


def milliseconds(ms):
    return f"{ms / 1000:.3f} s" if ms >= 1000 else f"{ms:.3f} ms"


def table(results):
    head = ("name", "ours", "peer", "ratio", "95 % interval", "other load")
    lines = [head]
    for r in results:
        interval = f"{r['ratio_low']:.2f} .. {r['ratio_high']:.2f}"
        lines.append(
            (
                r["name"],
                milliseconds(r["ours_ms"]),
                milliseconds(r["peer_ms"]),
                f"{r['ratio']:.2f}x",
                interval,
                f"{r['other_load']:.1%}",
            )
        )
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    out = []
    for line in lines:
        out.append("  ".join(cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths))))
    return "\n".join(out)


def machine(threads):
    name = platform.machine()
    try:
        with open("/proc/cpuinfo") as f:
            text = f.read()
        for line in text.splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
        levels = [level for level in ("avx2", "avx512f") if f" {level} " in text.replace("\n", " ")]
        name += f" ({', '.join(levels)})" if levels else ""
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores, {threads} threads used"


def write(path, document):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    part = path + ".part"
    with open(part, "w") as f:
        json.dump(document, f, indent=1)
        f.write("\n")
    os.replace(part, path)


def arguments(argv):
    p = argparse.ArgumentParser(description="ctnas and PyTorch side by side; see README.md")
    p.add_argument("--ours", default="bin/ctnas bench --serve --threads {threads} --device {device} --precision {precision}", help="command of our side")
    p.add_argument("--peer", default="{python} {here}/bench.py --threads {threads} --fraction {fraction} {data} {images} {gpu} serve")
    p.add_argument("--device", default="cpu", help="cpu, or cuda:N: then beside PyTorch eager")
    p.add_argument("--compile", action="store_true", help="on a GPU also beside torch.compile, which tunes for minutes a row")
    p.add_argument("--budget", type=float, help="seconds: what is not measured by then is left out")
    p.add_argument("--precision", default="fp32", help="of ours on a GPU: fp32 or bf16")
    p.add_argument("--python", default=os.path.join("build", "peers", "bin", "python"), help="a Python with PyTorch")
    p.add_argument("--data", help="NAS-Bench-101 CSV: the peer gets it as --data, ours as CTNAS_PEER_DATA")
    p.add_argument("--images", help="folder of JPEG files as imagenet:DIR reads it: the peer gets it as --images, ours as CTNAS_PEER_IMAGES")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--blocks", type=int, default=3, help="interleaved blocks of each row, at least 3")
    p.add_argument("--pause", type=float, default=0.5, help="seconds between two blocks")
    p.add_argument("--fraction", type=float, default=0.1, help="part of the search schedule that the peer runs; 1 = all (10 min a block)")
    p.add_argument("--only", help="comma-separated names")
    p.add_argument("--out", default=os.path.join("build", "peers.json"))
    args = p.parse_args(argv)
    if args.blocks < 3:
        p.error("--blocks must be at least 3")
    if args.budget is not None and not args.budget > 0:
        p.error("--budget must be above 0")
    if args.compile and args.device == "cpu":
        p.error("--compile needs --device cuda:N")
    if not 0 < args.fraction <= 1:
        p.error("--fraction must be above 0 and at most 1")
    rows = ROWS if args.device == "cpu" else GPU_ROWS
    names = args.only.split(",") if args.only else [r.name for r in rows]
    unknown = set(names) - {r.name for r in rows}
    if unknown:
        p.error(f"--only: unknown {', '.join(sorted(unknown))}; known: {', '.join(r.name for r in rows)}")
    args.rows = [r for r in rows if r.name in names]
    return args


def command(template, args, gpu=()):
    """The template's words, each filled in, so that a path may hold spaces. gpu: flags of the peer's device."""
    values = {
        "python": args.python,
        "here": HERE,
        "threads": args.threads,
        "fraction": args.fraction,
        "device": args.device,
        "precision": args.precision,
    }
    words = []
    for word in shlex.split(template):
        if word == "{data}":
            words += ["--data", args.data] if args.data else []
        elif word == "{images}":
            words += ["--images", args.images] if args.images else []
        elif word == "{gpu}":
            words += gpu
        else:
            words.append(word.format(**values))
    return words


def main(argv=None):
    args = arguments(argv)
    environment = dict(os.environ)
    if args.data:
        environment["CTNAS_PEER_DATA"] = os.path.abspath(args.data)
    if args.images:
        environment["CTNAS_PEER_IMAGES"] = os.path.abspath(args.images)
    deadline = None if args.budget is None else time.monotonic() + args.budget
    ours = Server("ours", command(args.ours, args), environment, deadline)
    if args.device == "cpu":
        peers = {"": Server("peer", command(args.peer, args), environment, deadline)}
    else:
        gpu = ["--device", "cuda"]
        own = {**environment, "CUDA_VISIBLE_DEVICES": args.device.partition(":")[2]}
        peers = {"": Server("peer", command(args.peer, args, gpu), own, deadline)}
        if args.compile:
            peers["_compiled"] = Server("compiled peer", command(args.peer, args, gpu + ["--compile"]), own, deadline)
    results, skipped, broken = [], [], False
    document = {"machine": machine(args.threads), "peer_version": None, "results": results, "skipped": skipped}

    def leave_out(name, reason):
        skipped.append({"name": name, "reason": reason})
        print(f"{name}: left out, {reason}", flush=True)

    try:
        for row in args.rows:
            for suffix, peer in peers.items():
                if suffix and not row.compiled:
                    continue
                name = row.name + suffix
                if deadline is not None and time.monotonic() >= deadline:
                    leave_out(name, "the time was up")
                    broken = True
                    continue
                print(f"{name}: {args.blocks} blocks", file=sys.stderr, flush=True)
                try:
                    if document["peer_version"] is None:
                        document["peer_version"] = peers[""].ask("hello", 0)["version"]
                    result = {**measure(row, ours, peer, args.blocks, args.pause, Load()), "name": name}
                except Refused as err:
                    leave_out(name, str(err))
                except Broken as err:
                    broken = True
                    leave_out(name, str(err))
                else:
                    results.append(result)
                    print(f"{name}: {result['ratio']:.2f}x", file=sys.stderr, flush=True)
                write(args.out, document)
    finally:
        for server in (ours, *peers.values()):
            server.close()
    write(args.out, document)
    print(f"{document['machine']}; peer {document['peer_version']}")
    if results:
        print(table(results))
    for r in results:
        if "note" in r:
            print(f"{r['name']}: {r['note']}")
        if "ours_gpu_ms" in r:
            print(f"{r['name']}: ours takes {milliseconds(r['ours_gpu_ms'])} by the GPU's clock")
        if r["other_load"] > 0.05:
            print(f"{r['name']}: other programs took {r['other_load']:.0%} of the machine; run it again on a quiet one")
    return 0 if results and not broken else 1


if __name__ == "__main__":
    sys.exit(main())
