#!/usr/bin/env python3
"""Images a second from JPEG files to random crops of 224x224: torchvision and ctnas, interleaved on one machine.

  data_bench.py DIR     DIR holds .JPEG files; needs torch, torchvision and Pillow, and Go with libjpeg-turbo's headers

Work of both: files in memory, decode, RandomResizedCrop(224) with bilinear antialiasing, mirror half of them, float32, normalise; two
workers, nothing is read from a disk. torchvision in three ways, each the way its documentation shows:

  pillow      Image.open().convert("RGB"), v1 transforms; two processes that keep what they make
  tensor      torchvision.io.decode_jpeg, v2 transforms on uint8 tensors; likewise
  dataloader  the faster of the two through torch's DataLoader in batches of 32, which ctnas' figure includes as well

Ours is BenchmarkPhotographs224 of trainer/data: the whole loader with batches of 32. Blocks alternate; the ratio is that of the medians.
"""

import argparse
import glob
import io
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
WAYS = ("pillow", "tensor")


def pipeline(way):
    """A function from a file's bytes to a normalised tensor."""
    import torch

    torch.set_num_threads(1)
    if way == "pillow":
        from PIL import Image
        from torchvision import transforms as T

        t = T.Compose([T.RandomResizedCrop(224), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(MEAN, STD)])
        return lambda data: t(Image.open(io.BytesIO(data)).convert("RGB"))
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms import v2 as T

    t = T.Compose([T.RandomResizedCrop(224, antialias=True), T.RandomHorizontalFlip(),
                   T.ToDtype(torch.float32, scale=True), T.Normalize(MEAN, STD)])
    return lambda data: t(decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB))


def worker(way, files, orders, counts):
    run = pipeline(way)
    for data in files[:20]:
        run(data)
    counts.put(0)
    while (seconds := orders.get()) is not None:
        done, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            run(files[done % len(files)])
            done += 1
        counts.put(done / (time.perf_counter() - end + seconds))


class Workers:
    """Two processes of one way."""

    def __init__(self, way, files):
        context = multiprocessing.get_context("spawn")
        self.orders, self.counts = [context.Queue() for _ in range(2)], context.Queue()
        self.processes = []
        for k, order in enumerate(self.orders):
            p = context.Process(target=worker, args=(way, files[k::2] + files[1 - k::2], order, self.counts))
            p.start()
            self.processes.append(p)
        for _ in self.processes:
            self.counts.get()

    def rate(self, seconds):
        for order in self.orders:
            order.put(seconds)
        return sum(self.counts.get() for _ in self.processes)

    def close(self):
        for order in self.orders:
            order.put(None)
        for p in self.processes:
            p.join()


class Files:
    """A data set for DataLoader. The pipeline is made in the process that uses it."""

    def __init__(self, files, way):
        self.files, self.way, self.run = files, way, None

    def __len__(self):
        return 64 * len(self.files)

    def __getitem__(self, i):
        if self.run is None:
            self.run = pipeline(self.way)
        return self.run(self.files[i % len(self.files)])


class Loader:
    """torch's DataLoader."""

    def __init__(self, files, way):
        import torch

        self.loader = torch.utils.data.DataLoader(Files(files, way), batch_size=32, shuffle=True, num_workers=2, persistent_workers=True)
        self.batches = iter(self.loader)
        for _ in range(6):
            self.next()

    def next(self):
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        return len(batch)

    def rate(self, seconds):
        for _ in range(4):  # what was prepared while others ran
            self.next()
        begin, done = time.perf_counter(), 0
        while time.perf_counter() < begin + seconds:
            done += self.next()
        return done / (time.perf_counter() - begin)


class Ours:
    def __init__(self, directory):
        self.binary = os.path.join(directory, "data.test")
        tags = subprocess.run([os.path.join(ROOT, "scripts", "tags.sh")], check=True, capture_output=True, text=True).stdout.strip()
        subprocess.run(["go", "test", "-c", "-tags", tags, "-o", self.binary, "./trainer/data"], cwd=ROOT, check=True)

    def rate(self, data, seconds):
        out = subprocess.run(
            [self.binary, "-test.run=^$", "-test.bench=Photographs224", f"-test.benchtime={seconds}s"],
            cwd=os.path.join(ROOT, "trainer", "data"), env={**os.environ, "CTNAS_DATA": data}, check=True, capture_output=True, text=True).stdout
        found = re.search(r"Photographs224/(\S+?)(?:-\d+)?\s.*?([\d.e+]+) images/s", out)
        if not found:
            raise SystemExit(f"the Go benchmark did not run: {out}")
        self.decoder = found[1]
        return float(found[2])


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("dir", help="the data folder: DIR/imagenet_sample/*.JPEG")
    a.add_argument("--blocks", type=int, default=5)
    a.add_argument("--seconds", type=float, default=4, help="of a block")
    args = a.parse_args()
    files = []
    for path in sorted(glob.glob(os.path.join(args.dir, "imagenet_sample", "*.JPEG"))):
        with open(path, "rb") as f:
            files.append(f.read())
    if not files:
        raise SystemExit(f"{args.dir} holds no imagenet_sample/*.JPEG")
    rates = {}
    with tempfile.TemporaryDirectory() as directory:
        ours = Ours(directory)
        peers = {way: Workers(way, files) for way in WAYS}
        first = {way: p.rate(args.seconds) for way, p in peers.items()}
        peers["dataloader"] = Loader(files, max(first, key=first.get))
        for _ in range(args.blocks):
            rates.setdefault("ctnas", []).append(ours.rate(os.path.abspath(args.dir), args.seconds))
            for way, p in peers.items():
                rates.setdefault(way, []).append(p.rate(args.seconds))
        for way in WAYS:
            peers[way].close()
    import torch
    import torchvision

    median = {way: statistics.median(r) for way, r in rates.items()}
    print(json.dumps({"name": "jpeg_rrc224", "files": len(files), "workers": 2, "torch": torch.__version__,
                      "torchvision": torchvision.__version__, "decoder": ours.decoder, "images_per_second": rates,
                      "ratio": {way: round(median["ctnas"] / median[way], 3) for way in median if way != "ctnas"}}, indent=1))


if __name__ == "__main__":
    main()
