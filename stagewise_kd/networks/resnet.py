"""ResNets with the head of the published experiments, and their blocks."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from stagewise_kd.networks.blocks import IMAGENET, Block, BlockNet
from stagewise_kd.networks.origin import Origin

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
    mean: Sequence[float] = IMAGENET[0],
    std: Sequence[float] = IMAGENET[1],
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
    model = resnet_model(name, classes, head)
    model.to(memory_format=torch.channels_last)
    return resnet_blocks(model, mean, std)


def resnet_model(name: str, classes: int, head: Head) -> ResNet:
    """The network itself: torchvision's class, with the head of `resnet`."""
    kind, depths = DEPTHS[name]
    model: Any = ResNet(kind, depths, num_classes=classes)
    width = model.fc.in_features
    if head == "published":
        model.avgpool = MaxAvgPool()
        model.fc = nn.Sequential(
            nn.Linear(2 * width, 256), nn.ReLU(inplace=True), nn.Linear(256, classes)
        )
    return model  # type: ignore[no-any-return]


def resnet_blocks(model: ResNet, mean: Sequence[float], std: Sequence[float]) -> BlockNet:
    """Any torchvision ResNet as the blocks stem, layer1 … layer4, head.

    Args:
        model: its submodules become the blocks'.
        mean: per-channel mean of the input, for images in [0, 1].
        std: per-channel standard deviation, likewise.
    """
    return BlockNet(model, _blocks(model), mean, std, _origin(model, mean, std))


def _origin(model: Any, mean: Sequence[float], std: Sequence[float]) -> Origin | None:
    """The arguments of `resnet` that give a network of this state dict; None where none do."""
    shape = (type(model.layer1[0]), [len(getattr(model, name)) for name in FEATURES[1:]])
    name = next((name for name, known in DEPTHS.items() if known == shape), None)
    head: Head = "linear" if isinstance(model.fc, nn.Linear) else "published"
    last = _as_list(model.fc)[-1]
    if name is None or not isinstance(last, nn.Linear):
        return None
    arguments = {"name": name, "classes": last.out_features, "head": head}
    arguments |= {"mean": [*mean], "std": [*std]}
    with torch.device("meta"):
        fits = _state(resnet_model(name, last.out_features, head)) == _state(model)
    return Origin("stagewise_kd.networks.resnet.resnet", arguments) if fits else None


def _state(model: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in model.state_dict().items()}


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
        Block(name, nn.Sequential(*modules), (read,), "head" if name == "head" else "encoder")
        for (name, modules), read in zip(parts.items(), reads, strict=True)
    ]


def _as_list(module: nn.Module) -> list[nn.Module]:
    return list(module) if isinstance(module, nn.Sequential) else [module]
