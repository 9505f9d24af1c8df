"""The shrunk ResNets as encoders of segmentation-models-pytorch, known to it from import on."""

from typing import Any

from segmentation_models_pytorch.encoders import encoders
from segmentation_models_pytorch.encoders.resnet import ResNetEncoder
from torch import nn

from stagewise_kd.networks.resnet import DEPTHS

WIDTHS = [64, 64, 128, 256, 512]


class SlimResNetEncoder(ResNetEncoder):
    """A ResNet encoder of basic blocks with every stage's channels scaled."""

    inplanes: int

    def __init__(self, width: float, **options: Any) -> None:
        self._width = width
        super().__init__(**options)

    def _make_layer(self, block: Any, planes: int, *args: Any, **options: Any) -> nn.Sequential:
        if planes == WIDTHS[0]:  # torchvision is about to build layer1 behind a stem of full width
            self.inplanes = scaled(self.inplanes, self._width)
            self.conv1 = nn.Conv2d(3, self.inplanes, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(self.inplanes)
        return super()._make_layer(block, scaled(planes, self._width), *args, **options)


def scaled(channels: int, width: float) -> int:
    """Channels scaled by a width factor; at least 1."""
    return max(1, round(channels * width))


def register() -> None:
    """Make resnet10, 14, 20 and 26 known to smp as ordinary encoders.

    There are no ImageNet weights of theirs, which smp asks for by default: build networks with
    `encoder_weights=None`.
    """
    for name, (block, layers) in DEPTHS.items():
        params = {"out_channels": [3, *WIDTHS], "block": block, "layers": layers}
        known = {"encoder": ResNetEncoder, "pretrained_settings": {}, "params": params}
        encoders.setdefault(name, known)


def encoder_name(name: str, width: float = 1.0) -> str:
    """The name under which smp knows an encoder of this width; makes it known where it is not.

    Args:
        name: an encoder of basic blocks, such as "resnet10".
        width: factor of every stage's channels.
    """
    if width == 1:
        return name
    slim = f"{name}_w{width:g}"
    params = encoders[name]["params"] | {
        "out_channels": [3, *(scaled(channels, width) for channels in WIDTHS)],
        "width": width,
    }
    encoders[slim] = {"encoder": SlimResNetEncoder, "pretrained_settings": {}, "params": params}
    return slim


register()
