"""Convolutions that give a few pixels, as the matrix products that CPUs are faster at."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 32  # of the input for each pixel of the output: from there on a product is faster


@contextmanager
def products_on_small_maps(*nets: nn.Module) -> Iterator[None]:
    """Let convolutions on the CPU whose output has a few pixels be computed as matrix products.

    The last blocks of networks made for large images have such maps on small ones, and libraries
    of convolutions take several times as long for them. Weights that meet nothing but padding,
    eight of nine for a single pixel, are left out; their gradients are the same zeros.

    Args:
        nets: they compute as before when the context ends.
    """
    convs = {m for net in nets for m in net.modules() if type(m) is nn.Conv2d and _plain(m)}
    convs = {conv for conv in convs if "forward" not in vars(conv)}  # a context around this one
    try:
        for conv in convs:
            conv.forward = MethodType(_forward, conv)  # type: ignore[method-assign]
        yield
    finally:
        for conv in convs:
            del conv.forward


def _plain(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size != (1, 1)
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )


def _forward(conv: nn.Conv2d, images: Tensor) -> Tensor:
    if images.dim() != 4 or not images.is_cpu:
        return nn.Conv2d.forward(conv, images)
    rows, top, bottom, height = _side(conv, images, 0)
    columns, left, right, width = _side(conv, images, 1)
    if height * width * CHANNELS > conv.in_channels:
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
