"""The students of the first experiments on stagewise distillation, before those took ResNets."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stagewise_kd.networks.blocks import IMAGE, IMAGENET, Block, BlockNet
from stagewise_kd.networks.origin import Origin
from stagewise_kd.networks.resnet import MaxAvgPool
from stagewise_kd.system.errors import UserError

WIDTHS = {  # channels of the features, called as a ResNet's of the same resolution
    "medium": {"stem": 64, "layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512},
    "small": {"stem": 64, "layer1": 64, "layer2": 128, "layer3": 256},
    "smallest": {"stem": 64, "layer2": 128, "layer3": 256, "layer4": 512},
    "plain5": {"stem": 64, "layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512},
}
STRIDE = 32  # of the last feature of plain5, all places of which its head reads


class Residual(nn.Module):
    """A convolution whose input is added to its output."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) to features of equal shape."""
        found: Tensor = x + self.conv(x)
        return found


def archived(
    name: str,
    classes: int,
    size: Sequence[int],
    mean: Sequence[float] = IMAGENET[0],
    std: Sequence[float] = IMAGENET[1],
) -> BlockNet:
    """A student of the first experiments as the blocks stem, layer1 … layer4, head.

    `medium`: a stem, then one plain and one residual convolution a stage. `small`: the same without
    layer4. `smallest`: one convolution of stride 2 a stage, layer2 to layer4. `plain5`: five 3×3
    convolutions with max pooling, without normalization and other activations. As published, batch
    normalization follows the activation, and no activation parts the two layers of a head.

    Args:
        name: a key of `WIDTHS`.
        classes: number of classes.
        size: height and width of the images, on which the head of plain5 depends.
        mean: per-channel mean of the input, for images in [0, 1].
        std: per-channel standard deviation, likewise.

    Raises:
        UserError: the images are too small for plain5.
    """
    model = _model(name, classes, size)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parts = dict(model.named_children())
    reads = [IMAGE, *parts][:-1]
    blocks = [
        Block(part, module, (read,), "head" if part == "head" else "encoder")
        for (part, module), read in zip(parts.items(), reads, strict=True)
    ]
    arguments = {"name": name, "classes": classes, "size": [*size]}
    arguments |= {"mean": [*mean], "std": [*std]}
    return BlockNet(model, blocks, mean, std, Origin(f"{__name__}.archived", arguments))


def _model(name: str, classes: int, size: Sequence[int]) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    before = 3
    for part, width in WIDTHS[name].items():
        parts[part] = nn.Sequential(*_stage(name, part, before, width))
        before = width
    parts["head"] = nn.Sequential(*_head(name, before, classes, size))
    return nn.Sequential(parts)


def conv(before: int, width: int, side: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution, an activation and batch normalization, in this order."""
    first = nn.Conv2d(before, width, side, stride, side // 2, bias=False)
    nn.init.kaiming_normal_(first.weight)
    return nn.Sequential(first, nn.ReLU(inplace=True), nn.BatchNorm2d(width))


def _stage(name: str, part: str, before: int, width: int) -> list[nn.Module]:
    if name == "plain5":
        return [nn.Conv2d(before, width, 3, padding=1), nn.MaxPool2d(2)]
    if part == "stem":
        return [conv(before, width, 7, 2)]
    behind_stem = part == [*WIDTHS[name]][1]
    pooling = [nn.MaxPool2d(3, 2, 1)] if behind_stem else []
    residual = [] if name == "smallest" else [Residual(width)]
    return [*pooling, conv(before, width, stride=1 if part == "layer1" else 2), *residual]


def _head(name: str, width: int, classes: int, size: Sequence[int]) -> list[nn.Module]:
    if name != "plain5":
        layers = [nn.Linear(2 * width, width // 2), nn.Linear(width // 2, classes)]
        return [MaxAvgPool(), nn.Flatten(), *layers]
    places = (size[0] // STRIDE) * (size[1] // STRIDE)
    if not places:
        raise UserError(
            f"plain5: images are {size[0]}×{size[1]}, it halves them five times; give "
            f"data.size={STRIDE} or more"
        )
    return [nn.Flatten(), nn.Linear(width * places, width), nn.Linear(width, classes)]
