"""JPEG files to random crops of 224x224 with torchvision, in three ways, each the way its documentation shows.

Files in memory, decode, RandomResizedCrop(224) with bilinear antialiasing, mirror half of them, float32, normalise, as many processes as threads:

  pillow      Image.open().convert("RGB"), v1 transforms; processes that keep what they make
  tensor      torchvision.io.decode_jpeg, v2 transforms on uint8 tensors; likewise
  dataloader  `tensor` through torch's DataLoader in batches of 32

Ours is the whole loader of trainer/data with batches of 32, which opens the files anew for each image (from the system's cache).
"""

import glob
import io
import multiprocessing
import os
import time

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
IMAGES = 1024


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

    t = T.Compose([T.RandomResizedCrop(224, antialias=True), T.RandomHorizontalFlip(), T.ToDtype(torch.float32, scale=True), T.Normalize(MEAN, STD)])
    return lambda data: t(decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB))


def worker(way, files, orders, done):
    run = pipeline(way)
    for data in files[:20]:
        run(data)
    done.put(0)
    while count := orders.get():
        for i in range(count):
            run(files[i % len(files)])
        done.put(count)


class Processes:
    """As many processes as threads, which share the images of a run. They end with this program."""

    def __init__(self, way, files, threads):
        context = multiprocessing.get_context("spawn")
        self.orders, self.done = [context.Queue() for _ in range(threads)], context.Queue()
        for k, order in enumerate(self.orders):
            context.Process(target=worker, args=(way, files[k::threads], order, self.done), daemon=True).start()
        for _ in self.orders:
            self.done.get()

    def run(self):
        begin = time.perf_counter()
        for order in self.orders:
            order.put(IMAGES // len(self.orders))
        for _ in self.orders:
            self.done.get()
        return time.perf_counter() - begin


class Files:
    """A data set for DataLoader. The pipeline is made in the process that uses it."""

    def __init__(self, files):
        self.files, self.pipeline = files, None

    def __len__(self):
        return 64 * len(self.files)

    def __getitem__(self, i):
        if self.pipeline is None:
            self.pipeline = pipeline("tensor")
        return self.pipeline(self.files[i % len(self.files)])


class Loader:
    def __init__(self, files, threads):
        import torch

        self.loader = torch.utils.data.DataLoader(Files(files), batch_size=32, shuffle=True, num_workers=threads, persistent_workers=True)
        self.batches, self.prefetched = iter(self.loader), 2 * threads

    def next(self):
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        return len(batch)

    def run(self):
        for _ in range(self.prefetched):  # what was prepared while others ran
            self.next()
        begin, done = time.perf_counter(), 0
        while done < IMAGES:
            done += self.next()
        return time.perf_counter() - begin


def open_way(way, folder, threads):
    files = []
    for path in sorted(glob.glob(os.path.join(folder or "", "*.JPEG"))):
        with open(path, "rb") as f:
            files.append(f.read())
    if not folder or not files:
        raise FileNotFoundError("no *.JPEG in --images")
    return Loader(files, threads) if way == "dataloader" else Processes(way, files, threads)
