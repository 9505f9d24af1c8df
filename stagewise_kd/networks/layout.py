"""How a feature lies: as a map with its channels first or last, as tokens, as a vector."""

from dataclasses import dataclass
from math import log
from typing import Literal

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """What the dimensions of a feature of one image mean.

    Args:
        kind: "map" (C, H, W), "last" (H, W, C), "tokens" (N, C), "vector" (C).
        places: height and width of a map, or the number of tokens: its resolution.
        width: the number of channels.
    """

    kind: Literal["map", "last", "tokens", "vector"]
    places: Shape
    width: int


def layout(shape: Shape, image: Shape) -> Layout:
    """The layout of a feature, of a map by whether its first or its last sides are the image's.

    Args:
        shape: of the feature of one image.
        image: channels, height and width.
    """
    if len(shape) != 3:
        return Layout("tokens" if len(shape) == 2 else "vector", shape[:-1], shape[-1])
    if _stretch(shape[:2], image) < _stretch(shape[1:], image):
        return Layout("last", shape[:2], shape[2])
    return Layout("map", shape[1:], shape[0])


def _stretch(sides: Shape, image: Shape) -> float:
    """How far two sides are from the proportions of the image."""
    return abs(log(sides[0] / sides[1]) - log(image[1] / image[2]))
