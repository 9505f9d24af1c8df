"""Small networks to shrink."""

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions beside an identity, the second of a width of its own."""

    def __init__(self, width: int = 8, inner: int = 12) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 3, padding=1)
        self.bn = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.bn(self.conv1(x)).relu())


class Chain(nn.Module):
    """A stem, residual blocks, a head."""

    def __init__(self, depth: int = 3, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual() for _ in range(depth)))
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def chain(depth: int = 3, classes: int = 4) -> Chain:
    """A chain whose normalization statistics are not those of a start."""
    torch.manual_seed(0)
    net = Chain(depth, classes)
    for block in net.blocks:
        nn.init.uniform_(block.bn.weight, 0.5, 1.5)
        nn.init.normal_(block.bn.running_mean, std=0.1)
    return net.eval()


def images(count: int = 6, size: int = 8) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))
