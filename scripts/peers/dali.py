"""DALI on the CPU beside the loader: microseconds of processor time an image, for docs/performance.md.

    python3 -m venv build/dali && build/dali/bin/pip install nvidia-dali-cuda130==2.4.0     # 720 MB; no GPU is needed
    build/dali/bin/python scripts/peers/dali.py FOLDER|FILE.pack

One thread. `crop` decodes the part of a random-resized crop to bytes, as BenchmarkRegions224 of trainer/data does; `floats` makes 224 x 224
normalised floats of it, as BenchmarkPhotographs224. Of a packed set the files are taken out first.
"""

import glob
import json
import os
import resource
import statistics
import struct
import sys
import tempfile

from nvidia.dali import fn, pipeline_def, types

BATCH, BLOCKS, RUNS = 32, 4, 50


def unpack(path, folder):
    """Writes the images of what `ctnas data pack` wrote into a folder."""
    with open(path, "rb") as f:
        data = f.read()
    (length,) = struct.unpack("<Q", data[16:24])
    facts = json.loads(data[24 : 24 + length])
    for k in range(sum(facts["images"])):
        offset, size = struct.unpack_from("<QI", data, 24 + length + 32 * k)
        with open(os.path.join(folder, f"{k:07d}.jpg"), "wb") as f:
            f.write(data[offset : offset + size])


@pipeline_def(batch_size=BATCH, num_threads=1, device_id=None, exec_pipelined=False, exec_async=False, prefetch_queue_depth=1)
def pipeline(files, floats):
    encoded, _ = fn.readers.file(files=files)
    image = fn.decoders.image_random_crop(encoded, device="cpu", output_type=types.RGB, random_area=[0.08, 1], random_aspect_ratio=[3 / 4, 4 / 3])
    if not floats:
        return image
    image = fn.resize(image, resize_x=224, resize_y=224, interp_type=types.INTERP_LINEAR, antialias=True)
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    return fn.crop_mirror_normalize(image, dtype=types.FLOAT, output_layout="HWC", mean=mean, std=std, mirror=fn.random.coin_flip())


def processor_time():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main():
    with tempfile.TemporaryDirectory() as folder:
        where = sys.argv[1]
        if os.path.isfile(where):
            unpack(where, folder)
            where = folder
        files = sorted(glob.glob(os.path.join(where, "*.JPEG")) + glob.glob(os.path.join(where, "*.jpg")))
        for name, floats in ("crop", False), ("floats", True):
            p = pipeline(files, floats)
            p.build()
            times = []
            for block in range(BLOCKS + 1):  # the first one warms up
                begin = processor_time()
                for _ in range(RUNS):
                    p.run()
                times.append((processor_time() - begin) / RUNS / BATCH * 1e6)
            times = times[1:]
            print(f"{name}: {statistics.median(times):.0f} us an image ({min(times):.0f} .. {max(times):.0f})")


if __name__ == "__main__":
    main()
