"""Writes small folders in the form of NATS-Bench's archives for tests of their reader, with drawn accuracies.

    python scripts/peers/nats_fixtures.py search/table/testdata/nats      (needs numpy)

The form is that of the files in github.com/D-X-Y/NATS-Bench, fake_torch_dir.
"""

import bz2
import collections
import json
import pathlib
import pickle
import random
import sys
import zipfile

import numpy

CELLS = [  # with the parameters of their networks on CIFAR-10, as the benchmark publishes them
    ("|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|", 0.129306),
    ("|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|", 0.802426),
    ("|skip_connect~0|+|skip_connect~0|skip_connect~1|+|none~0|nor_conv_1x1~1|none~2|", 0.101306),
]
SEEDS = {12: [777, 111], 200: [777, 888, 999]}
SETS = {"cifar10-valid": ["x-valid", "ori-test"], "cifar10": ["ori-test"],
        "cifar100": ["x-valid", "x-test", "ori-test"], "ImageNet16-120": ["x-valid", "x-test", "ori-test"]}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bz2.compress(pickle.dumps(value, protocol=4)))


def results(draw, number, text, params, trained=SEEDS):
    out = collections.OrderedDict()
    for epochs, seeds in trained.items():
        runs = {}
        for name, parts in SETS.items():
            for seed in seeds:
                if (name == "cifar10" and epochs == 12 and seed == 777) or (number == 2 and seed == 888):
                    continue  # not every network was trained with every seed
                accuracies = {"%s@%d" % (part, epoch): draw.uniform(10, 95) for part in parts
                              for epoch in (0, epochs - 1)}
                runs[(name, seed)] = {"name": name, "params": numpy.float64(params), "flop": 1.5, "seed": "0%d" % seed,
                                      "latency": [numpy.float64(0.01)], "eval_names": parts,
                                      "eval_acc1es": accuracies, "net_state_dict": None}
        out["%02d" % epochs] = {"arch_index": number, "arch_str": text, "all_results": runs}
    return out


def expect(expected, text, made):
    expected[text] = {"%s %s %d %d" % (name, part, seed, int(epochs)): run["eval_acc1es"]["%s@%d" % (part, int(epochs) - 1)]
                      for epochs, one in made.items() for (name, seed), run in one["all_results"].items()
                      for part in SETS[name]}


def main(folder):
    draw = random.Random(7)
    texts = [text for text, _ in CELLS]
    meta = {"meta_archs": texts, "total_archs": len(texts), "arch2infos": None, "evaluated_indexes": set()}
    expected = {}
    write(folder / "good" / "meta.pickle.pbz2", meta)
    cells = {}
    for number, (text, params) in enumerate(CELLS):
        made = results(draw, number, text, params)
        write(folder / "good" / ("%06d.pickle.pbz2" % number), made)
        expect(expected, text, made)
        cells[number] = made
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")

    def wrong(name, change):
        made = results(draw, 0, *CELLS[0])
        change(made)
        write(folder / name / "meta.pickle.pbz2", meta)
        write(folder / name / "000000.pickle.pbz2", made)

    wrong("percent", lambda m: m["200"]["all_results"][("cifar10", 777)]["eval_acc1es"].update({"ori-test@199": 101.0}))
    wrong("other", lambda m: m["12"].update(arch_str=texts[1]))
    wrong("params", lambda m: [r.update(params=0.5) for r in m["200"]["all_results"].values()])
    wrong("seed", lambda m: m["200"]["all_results"].update({("cifar10", 5): m["200"]["all_results"][("cifar10", 777)]}))
    wrong("none", lambda m: [one["all_results"].clear() for one in m.values()])
    wrong("key", lambda m: m["12"]["all_results"].update(cifar10={}))
    expected = {}
    sizes = ["8:8:8:8:8", "8:64:16:24:56"]
    meta_sizes = dict(meta, meta_archs=sizes, total_archs=len(sizes))
    write(folder / "size" / "meta.pickle.pbz2", meta_sizes)
    all_sizes = {}
    for number, text in enumerate(sizes):
        made = results(draw, number, text, 0.1 + number, {1: [777], 12: [777], 90: [777, 888, 999]})
        write(folder / "size" / ("%06d.pickle.pbz2" % number), made)
        expect(expected, text, made)
        all_sizes[number] = made
    (folder / "expected_size.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")

    # The same in one file each: NATS-Bench's, and NAS-Bench-201's as torch.save wrote it before PyTorch 1.6 and since.
    files = folder / "files"
    write(files / "NATS-tss.pickle.pbz2", dict(meta, arch2infos=cells, evaluated_indexes=set(cells)))
    write(files / "NATS-sss.pickle.pbz2", dict(meta_sizes, arch2infos=all_sizes, evaluated_indexes=set(all_sizes)))
    nb201 = dict(meta, arch2infos={i: {"less": made["12"], "full": made["200"]} for i, made in cells.items()},
                 evaluated_indexes=set(cells))
    old = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, nb201, []]
    (files / "NAS-Bench-201.pth").write_bytes(b"".join(pickle.dumps(one, protocol=2) for one in old))
    with zipfile.ZipFile(files / "NAS-Bench-201-zip.pth", "w") as archive:
        archive.writestr(zipfile.ZipInfo("NAS-Bench-201/data.pkl"), pickle.dumps(nb201, protocol=2))
        archive.writestr(zipfile.ZipInfo("NAS-Bench-201/version"), "3\n")
    write(folder / "large" / "meta.pickle.pbz2", {"meta_archs": texts, "rest": bytes(64 << 20)})
    write(folder / "large" / "000000.pickle.pbz2", {})


main(pathlib.Path(sys.argv[1]))
