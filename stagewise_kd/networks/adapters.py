"""Adapters from the shape of one feature to that of another; they learn with a stage."""

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stagewise_kd.networks.layout import Layout, Shape, layout

PREFIX = 16  # class and register tokens at most


def adapter(given: Shape, wanted: Shape, image: Shape, resize: bool) -> nn.Module | None:
    """What turns a feature into one of another shape; nothing where the shapes are equal.

    Of equal resolution it is a 1×1 convolution, of tokens a linear layer, and where channels lie in
    another place they are moved there.

    Args:
        given: shape of the feature of one image.
        wanted: the shape to give.
        image: channels, height and width.
        resize: whether maps may be scaled, and tokens be laid out as maps.

    Raises:
        ValueError: more than the width differs, and nothing may be resized; or one is no map and
            cannot be laid out as one.
    """
    if given == wanted:
        return None
    ours, theirs = layout(given, image), layout(wanted, image)
    if ours.kind == theirs.kind and ours.places == theirs.places:
        conv = ours.kind == "map"
        return (
            nn.Conv2d(ours.width, theirs.width, 1) if conv else nn.Linear(ours.width, theirs.width)
        )
    if ours.places != theirs.places and not resize:
        raise ValueError(
            "only widths may differ: pick a student of the same strides, or set match.resize=true"
        )
    grid = [laid_out(each, image) for each in (ours, theirs)]
    return nn.Sequential(
        ToMap(ours, grid[0]),
        Resize(grid[1]) if grid[0] != grid[1] else nn.Identity(),
        nn.Conv2d(ours.width, theirs.width, 1),
        FromMap(theirs),
    )


def laid_out(feature: Layout, image: Shape) -> Shape:
    """Height and width of a feature as a map; tokens before it, such as a class token, left out.

    Raises:
        ValueError: a vector has none, and tokens too few.
    """
    if feature.kind in ("map", "last"):
        return feature.places
    if feature.kind == "vector":
        raise ValueError("a vector has no resolution: match features before the pooling")
    (count,) = feature.places
    for prefix in range(min(count, PREFIX)):
        height = isqrt((count - prefix) * image[1] // image[2])
        if height and (count - prefix) % height == 0:
            width = (count - prefix) // height
            if height * image[2] == width * image[1]:
                return height, width
    raise ValueError(f"{count} tokens do not lie on a grid of the image's proportions")


class ToMap(nn.Module):
    """A feature of any layout as a map (B, C, H, W)."""

    def __init__(self, given: Layout, grid: Shape) -> None:
        super().__init__()
        self.kind, self.grid = given.kind, grid

    def forward(self, x: Tensor) -> Tensor:
        """Move the channels, and lay out tokens."""
        if self.kind == "map":
            return x
        if self.kind == "tokens":
            x = x[:, x.shape[1] - self.grid[0] * self.grid[1] :].reshape(-1, *self.grid, x.shape[2])
        return x.permute(0, 3, 1, 2)


class Resize(nn.Module):
    """A map in another resolution, bilinear, over all places that shrink into one."""

    def __init__(self, size: Shape) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, *size)."""
        wide = x.float()  # bfloat16 is not implemented on CPUs
        return F.interpolate(wide, self.size, mode="bilinear", antialias=True).to(x.dtype)


class FromMap(nn.Module):
    """A map (B, C, H, W) as a feature of any layout; tokens before the map are its mean."""

    def __init__(self, wanted: Layout) -> None:
        super().__init__()
        self.kind, self.places = wanted.kind, wanted.places

    def forward(self, x: Tensor) -> Tensor:
        """Move the channels, and line up tokens."""
        if self.kind == "map":
            return x
        if self.kind == "last":
            return x.permute(0, 2, 3, 1)
        tokens = x.flatten(2).transpose(1, 2)
        before = self.places[0] - tokens.shape[1]
        return torch.cat([tokens.mean(1, keepdim=True).expand(-1, before, -1), tokens], dim=1)
