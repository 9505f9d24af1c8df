"""Layers by what they do to channels: some mix them all, some keep them apart."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


def is_layer(module: nn.Module) -> bool:
    """Whether a module is a convolution or a linear layer."""
    return isinstance(module, _ConvNd | nn.Linear)


def mixes(layer: nn.Module) -> bool:
    """Whether a layer mixes all channels that it takes into each that it gives."""
    kind = isinstance(layer, nn.Linear) or (
        isinstance(layer, _ConvNd) and not isinstance(layer, _ConvTransposeNd) and layer.groups == 1
    )
    return kind and _plain(layer)


def apart(layer: Any) -> int:
    """How many channels a layer mixes with each other that keeps the rest apart; 0: it does not.

    They are one of a BatchNorm or of a convolution of one group a channel, else a group.
    """
    if not _plain(layer):
        return 0
    if isinstance(layer, _NormBase) or (isinstance(layer, nn.PReLU) and layer.num_parameters > 1):
        return 1
    if isinstance(layer, nn.GroupNorm):
        return layer.num_channels // layer.num_groups if layer.num_groups > 1 else 0
    grouped = isinstance(layer, _ConvNd) and layer.groups > 1
    return layer.in_channels // layer.groups if grouped and len({*sizes(layer)}) == 1 else 0


def sizes(layer: Any) -> tuple[int, int]:
    """How many channels come into a layer, and how many go out."""
    if isinstance(layer, _ConvNd):
        return layer.in_channels, layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    kinds = {nn.GroupNorm: "num_channels", nn.PReLU: "num_parameters"}
    count = getattr(
        layer, next((n for k, n in kinds.items() if isinstance(layer, k)), "num_features")
    )
    return count, count


def _plain(layer: nn.Module) -> bool:
    names = {name for name, _ in layer.named_parameters()}
    return names <= {"weight", "bias"} and not hasattr(layer, "parametrizations")
