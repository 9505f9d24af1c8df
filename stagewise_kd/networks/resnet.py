"""ResNets with the head of the published experiments, and their blocks."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from stagewise_kd.networks.blocks import Block, BlockNet

DEPTHS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet10": (BasicBlock, [1, 1, 1, 1]),
    "resnet14": (BasicBlock, [1, 1, 2, 2]),
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet20": (BasicBlock, [2, 2, 3, 2]),
    "resnet26": (BasicBlock, [3, 3, 3, 3]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}
FEATURES = ["stem", "layer1", "layer2", "layer3", "layer4"]
Head = Literal["published", "linear"]


class MaxAvgPool(nn.Module):
    """Global max pooling and global average pooling, concatenated in this order."""

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) to (B, 2C, 1, 1)."""
        return torch.cat([x.amax((2, 3), keepdim=True), x.mean((2, 3), keepdim=True)], dim=1)


def resnet(
    name: str,
    classes: int,
    head: Head = "published",
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
) -> BlockNet:
    """A torchvision ResNet as the blocks stem, layer1 … layer4, head.

    The published head (Kulkarni et al., arXiv 1911.06786) is max and average pooling concatenated,
    256 hidden units, ReLU, classes; "linear" is torchvision's own. The stem ends before the max
    pooling, which opens layer1.

    Args:
        name: a key of `DEPTHS`.
        classes: number of classes.
        head: kind of head.
        mean: per-channel mean of the input, for images in [0, 1].
        std: per-channel standard deviation, likewise.
    """
    kind, depths = DEPTHS[name]
    model: Any = ResNet(kind, depths, num_classes=classes)
    width = model.fc.in_features
    if head == "published":
        model.avgpool = MaxAvgPool()
        model.fc = nn.Sequential(
            nn.Linear(2 * width, 256), nn.ReLU(inplace=True), nn.Linear(256, classes)
        )
    model.to(memory_format=torch.channels_last)
    return BlockNet(model, _blocks(model), mean, std)


def _blocks(model: ResNet) -> list[Block]:
    parts = {
        "stem": [model.conv1, model.bn1, model.relu],
        "layer1": [model.maxpool, *model.layer1],
        "layer2": [*model.layer2],
        "layer3": [*model.layer3],
        "layer4": [*model.layer4],
        "head": [model.avgpool, nn.Flatten(), *_as_list(model.fc)],
    }
    reads = ["image", *list(parts)[:-1]]
    return [
        Block(name, nn.Sequential(*modules), (read,))
        for (name, modules), read in zip(parts.items(), reads, strict=True)
    ]


def _as_list(module: nn.Module) -> list[nn.Module]:
    return list(module) if isinstance(module, nn.Sequential) else [module]
