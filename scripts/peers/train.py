"""Training steps of whole networks: forward, cross-entropy with label smoothing 0.1, backward, SGD with momentum. The twin of cmd/ctnas/bench/train.go."""

import torch
import torch.nn.functional as F

import nets


class Step:
    """One network in one order of memory. On a GPU forward and loss run under bf16 autocast, channels_last, and the optimizer is the fused one."""

    def __init__(self, name, device, channels_last, compiled=False):
        build, side, batch = nets.NETWORKS[name]
        gpu = device != "cpu"
        torch.manual_seed(1)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.net = build().to(device, memory_format=self.format).train()
        self.images = torch.randn(nets.GPU_BATCH if gpu else batch, 3, side, side, device=device).contiguous(memory_format=self.format)
        self.labels = torch.randint(self.net.classifier.out_features, (len(self.images),), device=device)
        self.optimizer = torch.optim.SGD(self.net.parameters(), 1e-4, momentum=0.9, weight_decay=4e-5, fused=gpu)
        self.autocast = gpu
        self.forward = torch.compile(self.forward_loss, mode="max-autotune") if compiled else self.forward_loss

    def forward_loss(self, images, labels):
        return F.cross_entropy(self.net(images), labels, label_smoothing=0.1)

    def run(self):
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.autocast):
            loss = self.forward(self.images, self.labels)
        loss.backward()
        self.optimizer.step()
        return loss
