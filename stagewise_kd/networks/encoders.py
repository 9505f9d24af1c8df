"""The shrunk ResNets as encoders of segmentation-models-pytorch, known to it from import on."""

import warnings
from difflib import get_close_matches
from typing import Any

import timm
import torch
from segmentation_models_pytorch.encoders import (
    encoders,
    get_encoder,
    is_equivalent_to_timm_universal,
)
from segmentation_models_pytorch.encoders.resnet import ResNetEncoder
from torch import nn
from torchvision.models.resnet import BasicBlock

from stagewise_kd.networks.resnet import DEPTHS
from stagewise_kd.system.errors import UserError

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


def timms_name(name: str) -> str:
    """Smp's present name of an encoder: those of timm had another."""
    if not is_equivalent_to_timm_universal(name):
        return name
    return name.replace("timm-", "tu-tf_" if "mobilenetv3" in name else "tu-")


def check_encoder(name: str) -> None:
    """Raise a `UserError` with the closest names where smp has no encoder of a name."""
    known = [*encoders, *(f"tu-{other}" for other in timm.list_models())]
    if timms_name(name).split(".")[0] in known:  # tu-resnet18.a1_in1k is one of its weights
        return
    close = get_close_matches(name, known, n=3) or get_close_matches(f"tu-{name}", known, n=3)
    hint = f"did you mean {' or '.join(f'smp/{other}' for other in close)}?" if close else ""
    raise UserError(
        f"smp/{name}: segmentation-models-pytorch has no such encoder; "
        f"{hint or 'networks of timm are smp/tu-NAME'}"
    )


def checked_width(encoder: str, width: Any) -> float:
    """A factor of an encoder's channels.

    Raises:
        UserError: it is no factor above 0, or the encoder has no other width than its own.
    """
    if not isinstance(width, int | float) or not width > 0:
        raise UserError(f"student.width={width}: give a factor above 0, such as 0.5")
    scalable = [name for name, (block, _) in DEPTHS.items() if block is BasicBlock]
    if width != 1 and encoder not in scalable:
        raise UserError(
            f"student.width={width}: {encoder} has one width only; pick a narrower encoder, or one "
            f"of {', '.join(scalable)}"
        )
    return width


def feature_widths(name: str, width: float, depth: int) -> list[int]:
    """Channels of an encoder's features, from the image's resolution down; 0 where it has none.

    Args:
        name: of the encoder.
        width: factor of its channels.
        depth: how many times it halves the image.
    """
    found: list[int] = meta_encoder(encoder_name(name, width), depth=depth).out_channels
    return found


def meta_encoder(name: str, **options: Any) -> Any:
    """An encoder without memory, of which only the shapes are known."""
    with (
        torch.random.fork_rng(devices=[]),
        torch.device("meta"),
        warnings.catch_warnings(action="ignore", category=DeprecationWarning),
    ):
        return get_encoder(timms_name(name), weights=None, **options)


def depths(name: str) -> list[int] | None:
    """Residual blocks of each stage of a ResNet; None of other encoders."""
    known: dict[str, Any] = encoders.get(name, {}).get("params", {})
    return known.get("layers")


def is_new(name: str) -> bool:
    """Whether smp knows an encoder only by `register`."""
    return name in DEPTHS and not encoders[name]["pretrained_settings"]


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
