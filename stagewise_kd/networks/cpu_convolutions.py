"""Convolutions that libraries are slow at on CPUs, computed in another way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stagewise_kd.networks.modes import forwards

CHANNELS = 32  # of the input for each pixel of the output: from there on a product is faster


@contextmanager
def fast_convolutions(*nets: nn.Module) -> Iterator[None]:
    """Let some convolutions on the CPU be computed in another way, several times faster.

    Those whose output has a few pixels, as in the last blocks of networks for large images on small
    ones, are matrix products. Weights that meet nothing but padding, eight of nine for a single
    pixel, are left out; their gradients are the same zeros. Depthwise ones with a stride or a large
    kernel learn in float32, whatever the precision of the others.

    Args:
        nets: they compute as before when the context ends.
    """
    modules = {module for net in nets for module in net.modules()}
    with forwards({m: MethodType(way, m) for m in modules if (way := _faster(m))}):
        yield


def _faster(module: nn.Module) -> Callable[[nn.Conv2d, Tensor], Tensor] | None:
    """The way to compute a module; None: its own."""
    if type(module) is not nn.Conv2d or "forward" in vars(module):  # a context around this one
        return None
    side, stride = max(module.kernel_size), max(module.stride)
    if module.groups == 1 and side > 1 and max(module.dilation) == 1 and _pads_zeros(module):
        return _product
    depthwise = module.groups == module.in_channels
    return _in_float32 if depthwise and (side > 3 or stride > 1) else None


def _pads_zeros(conv: nn.Conv2d) -> bool:
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _in_float32(conv: nn.Conv2d, images: Tensor) -> Tensor:
    learns = torch.is_grad_enabled() and images.is_cpu
    if not (learns and torch.is_autocast_enabled("cpu")):
        return nn.Conv2d.forward(conv, images)
    with torch.autocast("cpu", enabled=False):
        found = nn.Conv2d.forward(conv, images.float())
    return found.to(torch.get_autocast_dtype("cpu"))


def _product(conv: nn.Conv2d, images: Tensor) -> Tensor:
    if images.dim() != 4 or not images.is_cpu:
        return nn.Conv2d.forward(conv, images)
    rows, top, bottom, height = _side(conv, images, 0)
    columns, left, right, width = _side(conv, images, 1)
    if not 0 < max(height, 0) * max(width, 0) * CHANNELS <= conv.in_channels:
        return nn.Conv2d.forward(conv, images)
    weight = conv.weight[:, :, rows, columns].permute(0, 2, 3, 1)
    padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, left, right, top, bottom))
    patches = padded.unfold(1, weight.shape[1], conv.stride[0])
    patches = patches.unfold(2, weight.shape[2], conv.stride[1]).permute(0, 1, 2, 4, 5, 3)
    return F.linear(patches.flatten(3), weight.flatten(1), conv.bias).permute(0, 3, 1, 2)


def _side(conv: nn.Conv2d, images: Tensor, side: int) -> tuple[slice, int, int, int]:
    """Of a side: the weights that meet pixels, padding before and behind, the output's pixels."""
    size, kernel, stride = images.shape[2 + side], conv.kernel_size[side], conv.stride[side]
    padding = int(conv.padding[side])
    out = (size + 2 * padding - kernel) // stride + 1
    last = (out - 1) * stride - padding  # where the last window starts
    first, end = max(0, -last), min(kernel, size + padding)
    return slice(first, end), padding - first, last + end - size, out
