#!/usr/bin/env python3
"""Writes the fixtures of trainer/format: small files of PyTorch in each of its forms, all of them of the same tensors.

  torch_files.py        writes trainer/format/testdata/*.pth of the repository

PyTorch writes zip.pth (since 1.6) and pickles.pth (0.1.11 to 1.5). Nothing writes the oldest form any more: tar.pth is written here after what
torch/serialization.py reads. half.pth holds the same tensors in other types of numbers.
"""

import collections
import io
import os
import pickle
import struct
import tarfile

import torch

FOLDER = os.path.join(os.path.dirname(__file__), "..", "..", "trainer", "format", "testdata")


def tensors():
    whole = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 8 - 1
    return collections.OrderedDict([
        ("conv.weight", whole),
        ("turned", whole.permute(2, 0, 1)),  # strides that are not those of its shape
        ("part", whole[1, 1:, ::2]),  # an offset in a shared storage
        ("one", torch.tensor(0.5)),
        ("none", torch.zeros(0, 3)),
        ("bn.num_batches_tracked", torch.tensor(7)),
    ])


def old(values):
    """The tar form: storages, tensors and a pickle that refers to them by key."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return str(keys[id(value)]) if id(value) in keys else None

    classes = {torch.float32: torch.FloatStorage, torch.int64: torch.LongStorage}
    keys, storages, written = {}, io.BytesIO(), {}
    owners = {v.untyped_storage().data_ptr(): v for v in values.values() if v.numel()}
    pickle.dump(len(owners) + 1, storages, 2)
    for key, (pointer, v) in enumerate([*owners.items(), (0, torch.zeros(0))]):
        flat = torch.tensor([], dtype=v.dtype).set_(v.untyped_storage()) if v.numel() else v
        written[pointer] = key
        pickle.dump((key, "cpu", classes[v.dtype]), storages, 2)
        storages.write(struct.pack("<q", flat.numel()))
        storages.write(flat.numpy().tobytes())
    pickle.dump([], storages, 2)
    described = io.BytesIO()
    pickle.dump(len(values), described, 2)
    for key, v in enumerate(values.values()):
        keys[id(v)] = 100 + key
        pickle.dump((100 + key, written[v.untyped_storage().data_ptr() if v.numel() else 0], torch.FloatTensor), described, 2)
        described.write(struct.pack(f"<i4x{v.dim()}q{v.dim()}qq", v.dim(), *v.shape, *v.stride(), v.storage_offset()))
    root = io.BytesIO()
    Pickler(root, 2).dump(values)
    return {"sys_info": pickle.dumps({"little_endian": True}, 2), "storages": storages.getvalue(), "tensors": described.getvalue(), "pickle": root.getvalue()}


def main():
    os.makedirs(FOLDER, exist_ok=True)
    values = tensors()
    torch.save({"epoch": 3, "best": 0.75, "args": None, "state_dict": values}, os.path.join(FOLDER, "zip.pth"))
    torch.save(values, os.path.join(FOLDER, "pickles.pth"), _use_new_zipfile_serialization=False)
    with tarfile.open(os.path.join(FOLDER, "tar.pth"), "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in old(values).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    weight = values["conv.weight"]
    torch.save({str(t).removeprefix("torch."): weight.to(t) for t in (torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int16, torch.int8)},
               os.path.join(FOLDER, "half.pth"))


if __name__ == "__main__":
    main()
