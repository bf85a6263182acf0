#!/usr/bin/env python3
"""Writes random weights of networks that timm, torchvision and once-for-all's packages have, with what PyTorch computes
from them.

  zoo_weights.py FOLDER SIDE NAME@ORIGIN=MODEL ... networks of the zoo, by whose weights, and what that program calls them
  zoo_weights.py --constants FILE                  what the packages themselves say of FILE, `ctnas zoo --constants --json`;
                                                   exits with 1 where they differ

Writes NAME@ORIGIN.safetensors, .pth (zip), .legacy.pth (pickles), .in.f32 (two images, NHWC) and .out.f32 (their logits),
raw little-endian float32. For a network of once-for-all there are also .supernet.pth, a supernet, and .part.safetensors,
the network's part of it.

The models compute with what their packages give them: no epsilon, padding or other constant is set here. Running
statistics and batch norms' parameters are random, so that each tensor matters, and some variances are so small that
epsilon does. Needs requirements-zoo.txt.
"""

import json
import math
import os
import sys

import safetensors.torch
import timm
import torch
import torchvision


def shufflenet():
    """As its authors have it: no bias, and a first block that keeps its 24 channels beside 220 new ones."""
    model = torchvision.models.shufflenet_v2_x2_0()
    model.fc = torch.nn.Linear(model.fc.in_features, 1000, bias=False)
    first = model.stage2[0]
    first.branch1[2], first.branch1[3] = torch.nn.Conv2d(24, 24, 1, bias=False), torch.nn.BatchNorm2d(24)
    first.branch2[5], first.branch2[6] = torch.nn.Conv2d(122, 220, 1, bias=False), torch.nn.BatchNorm2d(220)
    return model


def subnet(depths, kernels, ratios):
    """A sub-network of once-for-all's supernet of width 1.2; the supernet with random weights that it is a part of is its
    attribute supernet."""
    from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3

    net = OFAMobileNetV3(
        n_classes=1000,
        width_mult=1.2,
        ks_list=[3, 5, 7],
        expand_ratio_list=[3, 4, 6],
        depth_list=[2, 3, 4],
        dropout_rate=0,
    )
    for parameter_name, parameter in net.named_parameters():
        if parameter_name.endswith("_matrix"):  # of smaller kernels; they begin as identities
            torch.nn.init.normal_(parameter, 0, 0.3)
    net.set_active_subnet(ks=[int(k) or 3 for k in kernels], e=[int(r) or 3 for r in ratios], d=depths)
    model = net.get_active_subnet(preserve_weight=True)
    object.__setattr__(model, "supernet", net)  # not a module of it
    return model


# Models that are not what their package builds by a name.
SPECIAL = {
    "shufflenetv2_2.0@torchvision": lambda: shufflenet(),
    "ofa_389m@once-for-all": lambda: subnet([2, 3, 3, 4, 4], "33005530553055333373", "33003630443064446663"),
    "ofa_482m@once-for-all": lambda: subnet([3, 4, 4, 4, 4], "53305353553357357333", "33304443463366646663"),
}


def build(key, model):
    """The model of a package, such as mobilenetv2_140 or, with arguments, mobilenet_v2(width_mult=1.4); None where no
    package here has it."""
    origin = key.split("@")[1]
    if key in SPECIAL:
        return SPECIAL[key]()
    if origin.startswith("timm"):
        return timm.create_model(model)
    if origin == "torchvision":
        name, _, arguments = model.rstrip(")").partition("(")
        pairs = (a.split("=") for a in arguments.split(",") if a)
        return getattr(torchvision.models, name)(**{k: float(v) for k, v in pairs})
    return None


def norms(model):
    return [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def randomize(model, x):
    """Random batch norms whose running statistics fit the images, so that what the first layers do still shows in the
    logits. Shifts near 1 leave activations near their linear part, where a deep random network does not multiply what is
    rounded. Convolutions are scaled so that variances are about 0.01, of which an epsilon of 1e-3 is a tenth."""
    kept = [m.momentum for m in norms(model)]
    for module in norms(model):
        torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        torch.nn.init.uniform_(module.bias, 0.5, 1.5)
        module.momentum = 1.0  # the statistics are those of one batch
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    with torch.no_grad():
        model(x)
        for name, module in model.named_modules():  # to a variance of 0.01, in mean
            if isinstance(module, torch.nn.BatchNorm2d):
                scale = 0.1 / math.sqrt(float(module.running_var.mean()))
                convolution = previous
                convolution.weight.mul_(scale)
                if convolution.bias is not None:
                    convolution.bias.mul_(scale)
            elif isinstance(module, torch.nn.Conv2d):
                previous = module
        model(x)
    for module, momentum in zip(norms(model), kept):
        module.momentum = momentum
    model.eval()


def write(path, tensor):
    tensor.detach().contiguous().numpy().astype("<f4").tofile(path)


def compare(path):
    """Compares a table of constants with the installed packages."""
    with open(path) as f:
        rows = json.load(f)
    wrong = checked = 0
    for row in rows:
        key = f"{row['network']}@{row['origin']}"
        model = build(key, row["model"])
        if model is None:
            continue
        ours = row["constants"]
        theirs = {
            "batch_norm_eps": {m.eps for m in norms(model)},
            "batch_norm_momentum": {round(m.momentum, 12) for m in norms(model)},
        }
        found = {name: {round(ours[name], 12)} for name in theirs}
        strided = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.stride[0] > 1]
        theirs["strided_padding"] = {"same" if type(m).__name__ == "Conv2dSame" else "symmetric" for m in strided}
        found["strided_padding"] = {ours["strided_padding"]}
        images = ours["images"]
        side = images["side"]
        found["images"] = (
            side / images["crop"],
            images["interpolation"],
            [round(v, 6) for v in images["mean"]],
            [round(v, 6) for v in images["std"]],
        )
        if row["origin"].startswith("timm"):
            theirs["dropout"], found["dropout"] = model.drop_rate, ours["dropout"]
            c = timm.models.get_pretrained_cfg(".".join(part for part in (row["model"], row["tag"]) if part))
            theirs["images"] = (
                c.input_size[1] / c.crop_pct,
                c.interpolation,
                [round(v, 6) for v in c.mean],
                [round(v, 6) for v in c.std],
            )
        elif row["origin"] == "torchvision":
            dropouts = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
            theirs["dropout"], found["dropout"] = (dropouts or [0])[0], ours["dropout"]
            enum = torchvision.models.get_model_weights(row["model"].split("(")[0])
            t = (enum[row["tag"]] if row["tag"] else list(enum)[-1]).transforms()
            theirs["images"] = (
                t.resize_size[0] / t.crop_size[0] * side,
                t.interpolation.value,
                [round(v, 6) for v in t.mean],
                [round(v, 6) for v in t.std],
            )
        else:
            theirs["images"] = found["images"]
        theirs["images"] = (round(theirs["images"][0], 6), *theirs["images"][1:])
        found["images"] = (round(found["images"][0], 6), *found["images"][1:])
        for name in theirs:
            checked += 1
            if theirs[name] != found[name]:
                wrong += 1
                print(f"{key} {row['tag']}: {name} is {theirs[name]}, the table has {found[name]}")
    print(
        f"{checked - wrong} of {checked} constants agree "
        f"(timm {timm.__version__}, torchvision {torchvision.__version__})"
    )
    sys.exit(wrong > 0 or checked == 0)


def main():
    if sys.argv[1] == "--constants":
        compare(sys.argv[2])
    folder, side = sys.argv[1], int(sys.argv[2])
    torch.manual_seed(3)
    torch.set_num_threads(1)
    for argument in sys.argv[3:]:
        name, _, model = argument.partition("=")
        model = build(name, model)
        x = torch.randn(2, 3, side, side)
        path = os.path.join(folder, name)
        if hasattr(model, "supernet"):
            torch.save({"state_dict": model.supernet.state_dict()}, path + ".supernet.pth")
            safetensors.torch.save_file(model.state_dict(), path + ".part.safetensors")
        randomize(model, x)
        with torch.no_grad():
            logits = model(x)
        weights = model.state_dict()
        safetensors.torch.save_file(weights, path + ".safetensors")
        torch.save({"state_dict": weights, "epoch": 3}, path + ".pth")
        torch.save(weights, path + ".legacy.pth", _use_new_zipfile_serialization=False)
        write(path + ".in.f32", x.permute(0, 2, 3, 1))
        write(path + ".out.f32", logits)


if __name__ == "__main__":
    main()
