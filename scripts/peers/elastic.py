"""once-for-all's elastic MobileNetV3, as its package `ofa` builds it: training steps of several paths, and labels of
sub-networks. The twin of cmd/ctnas/bench/supernet.go, whose paths it reads. Needs requirements-zoo.txt."""

import os

import torch
import torch.nn.functional as F
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
SMOOTHING = 0.1


def build(width, classes, dropout=0.1):
    return OFAMobileNetV3(
        n_classes=classes,
        dropout_rate=dropout,
        width_mult=width,
        ks_list=[3, 5, 7],
        expand_ratio_list=[3, 4, 6],
        depth_list=[2, 3, 4],
    )


def parse(text):
    """The arguments of set_active_subnet of an architecture in ctnas' short form: mobilenetv3:<depths>:<kernels>:<ratios>,
    a digit each. What a place without a block holds does not matter."""
    _, depths, kernels, ratios = text.split(":")
    return {"d": list(map(int, depths)), "ks": [int(k) or 3 for k in kernels], "e": [int(r) or 3 for r in ratios]}


def benchmarked():
    """The paths of the measured rows: the largest, the smallest and two random ones."""
    with open(os.path.join(ROOT, "cmd", "ctnas", "bench", "supernet_paths.txt")) as f:
        return [parse(line) for line in f.read().split()]


def optimizer(net, rate, decay, **options):
    """SGD with Nesterov's momentum; norms and biases do not decay (once-for-all's rule, by the names)."""
    plain = [p for name, p in net.named_parameters() if "bn" in name or "bias" in name]
    decayed = [p for name, p in net.named_parameters() if not ("bn" in name or "bias" in name)]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0}]
    return torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True, **options)


def sandwich(net, paths, images, labels):
    """One update's gradients: the first path learns the labels, smoothed, the others its softmax. Returns the losses."""
    losses, soft = [], None
    for path in paths:
        net.set_active_subnet(**path)
        logits = net(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING) if soft is None else F.cross_entropy(logits, soft)
        if soft is None:
            soft = F.softmax(logits.detach(), 1)
        loss.backward()
        losses.append(loss)
    return losses


class Step:
    """An update of the supernet of width 1.0 by the benchmarked paths, on 8 images of 128 pixels in one order of memory."""

    def __init__(self, channels_last):
        torch.manual_seed(1)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.net = build(1.0, 1000).to(memory_format=self.format).train()
        self.images = torch.randn(8, 3, 128, 128).contiguous(memory_format=self.format)
        self.labels = torch.randint(1000, (8,))
        self.paths = benchmarked()
        self.optimizer = optimizer(self.net, 1e-4, 3e-5, fused=True)

    def run(self):
        self.optimizer.zero_grad(set_to_none=True)
        losses = sandwich(self.net, self.paths, self.images, self.labels)
        self.optimizer.step()
        return sum(loss.item() for loss in losses)


class Label:
    """Labels of the benchmarked paths on images of 32 pixels of 10 classes that are in memory: each sub-network is cut out,
    its statistics are made anew on 500 images and 500 others are classified, in batches of 100, as once-for-all's tutorial does."""

    IMAGES, BATCH = 500, 100

    def __init__(self, channels_last):
        torch.manual_seed(1)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.net = build(1.0, 10).to(memory_format=self.format).eval()
        self.calibration, self.heldout = (
            [
                (torch.randn(self.BATCH, 3, 32, 32).contiguous(memory_format=self.format), torch.randint(10, (self.BATCH,)))
                for _ in range(self.IMAGES // self.BATCH)
            ]
            for _ in range(2)
        )
        self.paths = benchmarked()

    @torch.inference_mode()
    def label(self, path):
        self.net.set_active_subnet(**path)
        part = self.net.get_active_subnet(preserve_weight=True).to(memory_format=self.format)
        part.eval()
        set_running_statistics(part, self.calibration)
        right = sum((part(images).argmax(1) == labels).sum() for images, labels in self.heldout)
        return right.item() / self.IMAGES

    def run(self):
        return sum(map(self.label, self.paths))
