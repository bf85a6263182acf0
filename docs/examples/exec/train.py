"""A command for --labels exec: that trains candidates in PyTorch, on CIFAR-10.

    ctnas search --space nasbench201 --budget 60 --label-workers 8 --out runs/own \
        --labels 'exec:python3 docs/examples/exec/train.py {module} {dir}?epochs=12&stop=median&classes=10&timeout=2h'

{module} is a file with the candidate's network, class Network, which needs torch alone. $DATA is the folder that
torchvision keeps CIFAR-10 in (it is fetched there if it is not; `&env=DATA` makes it count). 5,000 training images are
held out: a search is to choose by images that are neither trained nor tested on. After each epoch the accuracy is told,
so that ctnas can end what is hopeless, and a checkpoint is kept in {dir}, from which a killed training goes on. ctnas
says which GPU is this candidate's in CUDA_VISIBLE_DEVICES.
"""

import importlib.util
import json
import os
import sys
import time

import torch
from torch import nn
from torchvision import datasets, transforms

HELD_OUT, BATCH = 5000, 256
module, folder = sys.argv[1], sys.argv[2]
seed = int(os.environ["CANDIDATE_SEED"])
epochs = int(os.environ.get("CANDIDATE_EPOCHS", "12"))
device = "cuda" if torch.cuda.is_available() else "cpu"
begun = time.time()
torch.manual_seed(seed)

spec = importlib.util.spec_from_file_location("network", module)
network = importlib.util.module_from_spec(spec)
spec.loader.exec_module(network)
model = network.Network().to(device)

normal = [transforms.ToTensor(), transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))]
moved = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
where = os.environ.get("DATA", "data")
augmented = datasets.CIFAR10(where, train=True, download=True, transform=transforms.Compose(moved + normal))
plain = datasets.CIFAR10(where, train=True, transform=transforms.Compose(normal))
tested = datasets.CIFAR10(where, train=False, transform=transforms.Compose(normal))
order = torch.randperm(len(plain), generator=torch.Generator().manual_seed(0)).tolist()


def loader(images, of=None, shuffle=False):
    images = torch.utils.data.Subset(images, of) if of is not None else images
    return torch.utils.data.DataLoader(images, BATCH, shuffle=shuffle, drop_last=shuffle, num_workers=2)


train = loader(augmented, order[HELD_OUT:], shuffle=True)
validation, test = loader(plain, order[:HELD_OUT]), loader(tested)

optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train))
loss = nn.CrossEntropyLoss()


@torch.no_grad()
def accuracy(of):
    model.eval()
    right = sum((model(x.to(device)).argmax(1) == y.to(device)).sum().item() for x, y in of)
    model.train()
    return right / len(of.dataset)


first, checkpoint = 1, os.path.join(folder, "checkpoint.pt")
if os.path.exists(checkpoint):  # it was stopped
    state = torch.load(checkpoint, map_location=device)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    first = state["epoch"] + 1

for epoch in range(first, epochs + 1):
    torch.manual_seed(seed * 1000 + epoch)  # the same images in the same order, whenever it was stopped
    for x, y in train:
        optimizer.zero_grad()
        error = loss(model(x.to(device)), y.to(device))
        error.backward()
        optimizer.step()
        schedule.step()
    if not torch.isfinite(error):
        print(json.dumps({"diverged": True}))
        sys.exit()
    print(json.dumps({"epoch": epoch, "accuracy": accuracy(validation), "loss": error.item()}), flush=True)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
                "epoch": epoch}, checkpoint + ".new")
    os.replace(checkpoint + ".new", checkpoint)

print(json.dumps({"accuracy": accuracy(validation), "test_accuracy": accuracy(test), "seconds": time.time() - begun,
                  "parameters": sum(p.numel() for p in model.parameters())}))
