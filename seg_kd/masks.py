"""Class-index masks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from seg_kd.legend import Legend
from stagewise_kd.data.image_files import Size, open_picture
from stagewise_kd.data.samples import Colour
from stagewise_kd.system.errors import listed

VOID = 255  # pixels without a label
INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
COLOUR_MODES = ("RGB", "RGBA")
Mask = NDArray[np.uint8]


def read_mask(path: Path, size: Size | None, legend: Legend) -> Tensor:
    """Read a mask file as class indices and VOID, uint8 (H, W).

    Args:
        path: RGB with colours, or of one channel with class indices; see `_shows_colours`.
        size: scaled to it by nearest neighbour; None leaves the size.
        legend: what the values mean.

    Raises:
        OSError: the file is no image, or damaged.
        ValueError: a value or colour is not in the legend.
    """
    with open_picture(path) as file:
        if file.mode in COLOUR_MODES or _shows_colours(file, legend):
            mask = from_colours(np.asarray(file.convert("RGB")), legend)
        elif file.mode in INDEX_MODES:
            mask = from_indices(np.asarray(file), legend)
        else:
            raise ValueError(f"mode {file.mode}; expected one channel of indices, or RGB colours")
    if size is not None and mask.shape != size:
        scaled = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)
        mask = np.array(scaled)
    return torch.from_numpy(mask)


def _shows_colours(file: Image.Image, legend: Legend) -> bool:
    """Whether an image with a palette is meant by its colours: all that it shows have a class.

    Editors number a palette as they like. Grey images are meant so where all colours are grey.
    """
    known = {*legend.colours, *legend.void_colours}
    all_grey = all(len(set(colour)) == 1 for colour in known)
    if not legend.colours or not (file.mode == "P" or (file.mode in ("1", "L") and all_grey)):
        return False
    shown = file.convert("RGB").getcolors(len(known))  # None: there are more
    return shown is not None and {colour for _, colour in shown} <= known


def from_indices(values: NDArray[np.generic], legend: Legend) -> Mask:
    """Class indices of any integer type (H, W) as a mask.

    Where 0 is void, classes count from 1. In a data set of two classes, 255 stands for the second
    one in masks that have no 1.

    Raises:
        ValueError: lists the values that are no class and not void.
    """
    if values.dtype == bool:
        values = values.astype(np.uint8)
    found = np.unique(values)
    count = len(legend.classes)
    if count == 2 and VOID in found and 1 not in found and not {0, VOID} & {*legend.void_indices}:
        values = np.where(values == VOID, 1, values)
        found = np.unique(values)
    void = np.isin(values, legend.void_indices)
    if wrong := _strange(found.tolist(), legend):
        first, last = legend.first, legend.first + count - 1
        hint = _void_hint(found.tolist(), legend)
        raise ValueError(
            f"values {listed(wrong, 5)}; the {count} classes are {first} to {last}{hint}"
        )
    return np.where(void, VOID, values - legend.first).astype(np.uint8)


def _strange(found: Sequence[int], legend: Legend) -> list[int]:
    """The values that are no class and not void."""
    known = {*range(legend.first, legend.first + len(legend.classes)), *legend.void_indices}
    return [value for value in found if value not in known]


def _void_hint(found: Sequence[int], legend: Legend) -> str:
    """What would make a mask of these values right if it had no label."""
    for more in ((VOID,), (0,), (0, VOID)):
        if _strange(found, replace(legend, void_indices=(*legend.void_indices, *more))):
            continue
        told = " and ".join(map(str, more))
        void = list(more) if len(more) > 1 else more[0]
        has = legend.void_indices or legend.void_colours
        add = f"{told} to `void`" if has else f"`void: {void}`"
        then = "; classes count from 1 then" if 0 in more else ""
        return (
            f"; if {told} {'is no label' if len(more) == 1 else 'are no labels'}, add {add}{then}"
        )
    return ""


def from_colours(pixels: Mask, legend: Legend) -> Mask:
    """Colours (H, W, 3) as a mask.

    Raises:
        ValueError: lists the colours that are no class and not void.
    """
    if not legend.colours:
        raise ValueError("holds colours, but the classes have none; give each its [r, g, b]")
    meaning = {_code(colour): index for index, colour in enumerate(legend.colours)}
    meaning |= {_code(colour): VOID for colour in legend.void_colours}
    known = np.array(sorted(meaning))
    codes = pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    place = np.searchsorted(known, codes).clip(max=len(known) - 1)
    wrong = np.unique(codes[known[place] != codes])
    if len(wrong):
        unknown = [[c >> 16, c >> 8 & 255, c & 255] for c in wrong.tolist()]
        raise ValueError(f"colours {listed(unknown, 5)} are of no class; save masks as PNG")
    return np.array([meaning[code] for code in known.tolist()], np.uint8)[place]


def _code(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]
