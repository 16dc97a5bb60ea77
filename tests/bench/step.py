"""The forward passes and training steps of step.rs in PyTorch, on the first NVIDIA GPU. Needs PyTorch only. The argument
is the precision: float32, tf32 or bfloat16. Prints JSON: the median seconds of each."""

import json
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

FORWARD, TRAINING, STEPS, ROUNDS = 16, 8, 20, 5
PRECISION = sys.argv[1]


def vgg16():
    layers, channels = [], 3
    for count, width in [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]:
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class Block(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()

        def convolution(inputs, outputs, kernel, step):
            return nn.Conv2d(inputs, outputs, kernel, step, kernel // 2, bias=False), nn.BatchNorm2d(outputs)

        self.main = nn.Sequential(
            *convolution(channels, width, 1, 1), nn.ReLU(inplace=True),
            *convolution(width, width, 3, stride), nn.ReLU(inplace=True),
            *convolution(width, 4 * width, 1, 1))
        same = stride == 1 and channels == 4 * width
        self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(channels, 4 * width, 1, stride))

    def forward(self, x):
        return F.relu(self.main(x) + self.shortcut(x), inplace=True)


def resnet50():
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for count, width, stride in [(3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)]:
        for index in range(count):
            layers.append(Block(channels, width, stride if index == 0 else 1))
            channels = 4 * width
    return nn.Sequential(*layers)


def median(compute):
    times = []
    for index in range(ROUNDS + 1):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        compute()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def main():
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = PRECISION != "float32"
    layout = torch.channels_last if PRECISION == "bfloat16" else torch.contiguous_format
    cast = torch.autocast("cuda", torch.bfloat16, enabled=PRECISION == "bfloat16")
    times = {}
    for name, network, channels in [("vgg16", vgg16, 512), ("resnet50", resnet50, 2048)]:
        base = network().cuda().to(memory_format=layout)
        images = torch.rand(FORWARD, 3, 224, 224)

        def forward():
            with torch.no_grad(), cast:
                return base(images.cuda().to(memory_format=layout)).float().cpu()

        base.eval()
        times[f"{name} forward {FORWARD}"] = median(forward)
        base.train()
        model = nn.Sequential(base, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2)).cuda()
        optimizer = torch.optim.SGD(model.parameters(), 1e-4)
        images = torch.rand(STEPS * TRAINING, 3, 224, 224).pin_memory()
        classes = torch.zeros(STEPS * TRAINING, dtype=torch.int64)

        def epoch():
            for at in range(0, len(images), TRAINING):
                x = images[at : at + TRAINING].cuda(non_blocking=True).to(memory_format=layout)
                y = classes[at : at + TRAINING].cuda(non_blocking=True)
                optimizer.zero_grad()
                with cast:
                    loss = F.cross_entropy(model(x).float(), y)
                loss.backward()
                optimizer.step()

        times[f"{name} training step {TRAINING}"] = median(epoch) / STEPS
    print(json.dumps(times))


main()
