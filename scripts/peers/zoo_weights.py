#!/usr/bin/env python3
"""Writes random weights of networks that timm, torchvision and once-for-all's package have, with what PyTorch computes from them.

  zoo_weights.py FOLDER SIDE [NAME ...]     names of the zoo; by default all that there are

Writes NAME.safetensors, NAME.pth (zip), NAME.legacy.pth (pickles), NAME.in.f32 (two images, NHWC) and NAME.out.f32 (their logits), raw little-endian float32.
For a network of once-for-all there are also NAME.supernet.pth, a supernet, and NAME.part.safetensors, the network's part of it.
Running statistics and batch norms' parameters are random too, so that each tensor matters. Needs requirements-zoo.txt.
"""

import os
import sys

import safetensors.torch
import timm
import torch
import torchvision

TIMM = {
    "mobilenetv2_1.4": "mobilenetv2_140",
    "mobilenetv3_large_1.0": "mobilenetv3_large_100",
    "fbnet_c_timm": "fbnetc_100",
    "mnasnet_a1": "semnasnet_100",
    "mnasnet_b1": "mnasnet_100",
    "efficientnet_b0": "efficientnet_b0",
}
SHUFFLENET = "shufflenetv2_2.0"
# Sub-networks of once-for-all's supernet of width 1.2, as cmd/ctnas has them: depths, kernels and ratios.
OFA = {
    "ofa_389m": ([2, 3, 3, 4, 4], "33005530553055333373", "33003630443064446663"),
    "ofa_482m": ([3, 4, 4, 4, 4], "53305353553357357333", "33304443463366646663"),
}


def build(name):
    if name in TIMM:
        return timm.create_model(TIMM[name], pretrained=False)
    if name in OFA:
        return subnet(name)
    model = torchvision.models.shufflenet_v2_x2_0(weights=None)
    # As the authors have it: no bias, and a first block that keeps its 24 channels beside 220 new ones.
    model.fc = torch.nn.Linear(model.fc.in_features, 1000, bias=False)
    first = model.stage2[0]
    first.branch1[2], first.branch1[3] = torch.nn.Conv2d(24, 24, 1, bias=False), torch.nn.BatchNorm2d(24)
    first.branch2[5], first.branch2[6] = torch.nn.Conv2d(122, 220, 1, bias=False), torch.nn.BatchNorm2d(220)
    return model


def subnet(name):
    """A sub-network; the supernet with random weights that it is a part of is its attribute supernet."""
    from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3

    depths, kernels, ratios = OFA[name]
    net = OFAMobileNetV3(n_classes=1000, width_mult=1.2, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4], dropout_rate=0)
    for parameter_name, parameter in net.named_parameters():
        if parameter_name.endswith("_matrix"):  # of smaller kernels; they begin as identities
            torch.nn.init.normal_(parameter, 0, 0.3)
    net.set_active_subnet(ks=[int(k) or 3 for k in kernels], e=[int(r) or 3 for r in ratios], d=depths)
    model = net.get_active_subnet(preserve_weight=True)
    object.__setattr__(model, "supernet", net)  # not a module of it
    return model


def randomize(model, x, eps):
    """Random batch norms whose running statistics fit the images, so that what the first layers do still shows in the logits. Shifts near 1 leave activations near
    their linear part, where a deep random network does not multiply what is rounded."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = eps
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, 0.5, 1.5)
            module.momentum = 1.0
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    with torch.no_grad():
        model(x)
    model.eval()


def write(path, tensor):
    tensor.detach().contiguous().numpy().astype("<f4").tofile(path)


def main():
    folder, side, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:] or [*TIMM, SHUFFLENET, *OFA]
    torch.manual_seed(3)
    torch.set_num_threads(1)
    for name in names:
        model = build(name)
        x = torch.randn(2, 3, side, side)
        # The zoo's networks have the batch norms of their definitions; timm's differ for some.
        eps = 1e-5 if name in ("mobilenetv2_1.4", "fbnet_c_timm", SHUFFLENET, *OFA) else 1e-3
        if name in OFA:
            torch.save({"state_dict": model.supernet.state_dict()}, os.path.join(folder, name) + ".supernet.pth")
            safetensors.torch.save_file(model.state_dict(), os.path.join(folder, name) + ".part.safetensors")
        randomize(model, x, eps)
        with torch.no_grad():
            logits = model(x)
        path = os.path.join(folder, name)
        weights = model.state_dict()
        safetensors.torch.save_file(weights, path + ".safetensors")
        torch.save({"state_dict": weights, "epoch": 3}, path + ".pth")
        torch.save(weights, path + ".legacy.pth", _use_new_zipfile_serialization=False)
        write(path + ".in.f32", x.permute(0, 2, 3, 1))
        write(path + ".out.f32", logits)


if __name__ == "__main__":
    main()
