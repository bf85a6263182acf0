#!/usr/bin/env python3
"""Writes the image fixtures in trainer/data/testdata: small files of unusual kinds, and what Pillow and torchvision make of them.

NAME.jpg, NAME.png or NAME.webp is read by the tests; NAME.rgb.png is the same after Pillow's convert("RGB"). resize.json holds a picture, and
its antialiased resizings by torchvision. Needs Pillow, torchvision and numpy (scripts/peers/requirements.txt).
"""

import itertools
import json
import os

import numpy as np
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.normpath(os.path.join(HERE, "..", "..", "trainer", "data", "testdata"))


def picture(width, height):
    """A smooth picture with an edge, so that lossy formats keep it."""
    y, x = np.mgrid[0:height, 0:width]
    r = 127 + 100 * np.sin(x / 9.0)
    g = 127 + 100 * np.cos(y / 7.0)
    b = np.where(x + y > (width + height) / 2, 200, 60)
    return Image.fromarray(np.stack([r, g, b], -1).astype(np.uint8))


def save(name, image, expect=None, **options):
    path = os.path.join(OUT, name)
    image.save(path, **options)
    (expect or Image.open(path).convert("RGB")).save(os.path.join(OUT, name.split(".")[0] + ".rgb.png"))


def main():
    os.makedirs(OUT, exist_ok=True)
    p = picture(61, 43)
    for name, subsampling in (("444", 0), ("422", 1), ("420", 2)):
        save(f"ycc{name}.jpg", p, quality=90, subsampling=subsampling)
    save("progressive.jpg", p, quality=90, progressive=True)
    save("grey.jpg", p.convert("L"), quality=90)
    save("cmyk.jpg", p.convert("CMYK"), quality=95)
    # The same file read as YCCK: Adobe's marker says how the four channels are coded.
    with open(os.path.join(OUT, "cmyk.jpg"), "rb") as f:
        data = bytearray(f.read())
    marker = data.index(b"Adobe")
    data[marker + 11] = 2
    with open(os.path.join(OUT, "ycck.jpg"), "wb") as f:
        f.write(data)
    Image.open(os.path.join(OUT, "ycck.jpg")).convert("RGB").save(os.path.join(OUT, "ycck.rgb.png"))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees: ignored
    save("turned.jpg", p, quality=90, exif=exif)
    save("restart.jpg", p, quality=90, restart_marker_rows=1)
    save("rgba.png", Image.merge("RGBA", (*p.split(), p.convert("L"))))
    save("palette.png", p.quantize(16))
    save("grey8.png", p.convert("L"))
    # 16 bits: Pillow clips these at 255 when it converts, which nobody wants; the upper 8 bits are expected.
    deep = np.asarray(p.convert("L")).astype(np.uint16) * 256 + 77
    save("grey16.png", Image.fromarray(deep), Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB"))

    save("webp.webp", p, quality=80)
    save("webpeven.webp", picture(60, 44), quality=30)
    save("webplossless.webp", p, lossless=True)
    clear = Image.merge("RGBA", (*p.split(), p.convert("L")))
    save("webpalpha.webp", clear, clear.convert("RGB"), lossless=True, exact=True)
    save("webplossyalpha.webp", Image.merge("RGBA", (*p.split(), p.convert("L").point(lambda v: 255 - v // 4))), quality=80)

    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    source = picture(50, 37)
    tensor = torch.from_numpy(np.array(source)).permute(2, 0, 1).float()
    source.save(os.path.join(OUT, "resize.png"))
    cases = []
    for interpolation, (box, size) in itertools.product(("bilinear", "bicubic"), (((0, 0, 50, 37), (16, 16)), ((5, 3, 31, 22), (16, 16)), ((11, 7, 9, 12), (20, 20)))):
        x, y, w, h = box
        out = F.resized_crop(tensor, y, x, h, w, list(size), InterpolationMode(interpolation), antialias=True)
        values = [round(float(v), 3) for v in out.permute(1, 2, 0).flatten()]
        cases.append({"x": x, "y": y, "width": w, "height": h, "size": size[0], "interpolation": interpolation, "values": values})
    with open(os.path.join(OUT, "resize.json"), "w") as f:
        json.dump(cases, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
