"""A network of one's own, half as wide as its teacher: python own_network.py [EPOCHS]"""

import sys

import torch
from torch import Tensor, nn

import cls_kd


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv(x))


def network(width: int) -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))
    return nn.Sequential(stem, Residual(width), Residual(width), head)


torch.manual_seed(0)  # the same networks and images whenever this is run
labels = torch.arange(600) % 3
images = torch.randint(0, 200, (600, 3, 16, 16), dtype=torch.uint8)
images[torch.arange(600), labels] += 15  # the class is the brightest colour
train = list(zip(images[:500], labels[:500], strict=True))  # any object with [] and len
test = list(zip(images[500:], labels[500:], strict=True))

shared = {"test": test, "batch_size": 16}
teacher = cls_kd.distill(network(16), None, train, method="no_teacher", **shared).student
epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
places = ["0", "1", "2"]  # the modules that end a block, as in named_modules()
run = cls_kd.distill(network(8), teacher, train, at=places, epochs=epochs, out="runs/own", **shared)
print(run.result["teacher_metrics"], run.result["student_metrics"])
