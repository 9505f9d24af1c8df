"""Image files and their masks: matching, checking, decoding."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from seg_kd.channels import read_image
from seg_kd.legend import Legend
from seg_kd.masks import VOID, read_mask
from stagewise_kd.data.finding import find_images, say_left_out, size_of_all, unlabelled_files
from stagewise_kd.data.image_files import (
    FileImages,
    Images,
    Size,
    keeps,
    open_picture,
    raise_first,
    upright_size,
)
from stagewise_kd.data.preparing import MODES
from stagewise_kd.data.samples import Part
from stagewise_kd.system.errors import UserError

GREY = ("1", "L", "LA")
ALL_GREY = (
    "all images are grey; set data.channels=3 to read them as RGB, for a teacher of three "
    "channels, or data.channels=1 for one of one"
)
SMALL = 96 * 96  # pixels: above, threads decode faster than one


def load_pairs(
    root: Path,
    folders: dict[str, tuple[str, str]],
    legend: Legend,
    size: Size | None,
    channels: int | None = None,
    in_memory: bool | None = None,
) -> dict[str, Part]:
    """The splits of a data set, every file checked.

    Args:
        root: the folder of the data set.
        folders: of images and of masks in each split, below root.
        legend: what the values in masks mean.
        size: height and width the images are used at; None where all are of one size.
        channels: of the images: 1, 3 or 4; None: 3, unless all are grey.
        in_memory: hold them decoded; None where they fit.

    Raises:
        UserError: lists what is wrong with the files of all splits.
    """
    ask, channels = channels is None, 3 if channels is None else channels
    check_channels(channels)
    faults: list[str] = []
    left_out: Counter[str] = Counter()
    rows = [
        (split, *pair)
        for split, (images, masks) in folders.items()
        for pair in match(root / images, root / masks, faults, left_out)
    ]
    paths, masks = [path for _, path, _ in rows], [mask for *_, mask in rows]
    sizes = [_size(path) for path in paths]
    faults += _shape_faults(paths, masks, sizes)
    if ask and paths and _all_grey(paths):
        faults.append(ALL_GREY)
    size = size or _common(paths, sizes, faults)
    pixels = size[0] * size[1] if size else None
    keep = pixels is not None and keeps(in_memory, len(rows) * pixels * (channels + 1))
    counts: dict[int, Tensor] = {}
    look = partial(_count, counts, len(legend.classes))
    threads = pixels is None or pixels > SMALL
    decode = partial(read_image, size=size, channels=channels)
    images = FileImages(paths, decode, keep, threads)
    labels = FileImages(masks, partial(read_mask, size=size, legend=legend), keep, threads)
    faults += [*images.read(), *labels.read(look=look)]
    raise_first(f"{root}: faults in images and masks", faults)
    say_left_out(root, left_out)
    names = [path.relative_to(root).as_posix() for path in paths]
    whole = Part(names, images, labels, [counts[number] for number in range(len(names))])
    of = [split for split, *_ in rows]
    return {
        split: whole.take([name for name, own in zip(whole.names, of, strict=True) if own == split])
        for split in folders
    }


def _count(counts: dict[int, Tensor], classes: int, number: int, mask: Tensor) -> None:
    """Count the pixels of each class in a mask, while it is at hand."""
    counts[number] = torch.bincount(mask.flatten(), minlength=VOID + 1)[:classes]


def match(
    images: Path, masks: Path, faults: list[str], left_out: Counter[str] | None = None
) -> list[tuple[Path, Path]]:
    """Images and masks of the same name, whatever their formats; faults are added to the list."""
    by_name = [_by_stem(folder, faults, left_out) for folder in (images, masks)]
    for found, others, missing in (
        (by_name[0], by_name[1], f"has no mask in {masks}"),
        (by_name[1], by_name[0], f"has no image in {images}"),
    ):
        faults += [f"{path} {missing}" for name, path in found.items() if name not in others]
    if not by_name[0]:
        faults.append(f"{images} holds no images")
    return [(path, by_name[1][name]) for name, path in by_name[0].items() if name in by_name[1]]


def _by_stem(
    folder: Path, faults: list[str], left_out: Counter[str] | None = None
) -> dict[str, Path]:
    """Image files below a folder, by their path in it less the suffix."""
    found: dict[str, Path] = {}
    for path in find_images(folder, left_out):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            faults.append(f"{found[name]} and {path} have the same name; keep one of them")
        found[name] = path
    return found


def _size(path: Path) -> Size | None:
    """Upright height and width from a file's header; None where it is no image."""
    try:
        with open_picture(path) as file:
            return upright_size(file)
    except Exception:  # it is listed when it is decoded
        return None


def _all_grey(paths: Sequence[Path]) -> bool:
    """Whether no image has colours; stops reading at the first that has."""
    for path in paths:
        with suppress(Exception), open_picture(path) as file:
            if file.mode not in GREY:
                return False
    return True


def _shape_faults(
    images: Sequence[Path], masks: Sequence[Path], sizes: Sequence[Size | None]
) -> list[str]:
    return [
        f"{mask} is {_shown(found)}, its image {_shown(wanted)}"
        for mask, wanted, found in zip(masks, sizes, map(_size, masks), strict=True)
        if wanted and found and wanted != found
    ]


def _common(paths: Sequence[Path], sizes: Sequence[Size | None], faults: list[str]) -> Size | None:
    """The one size of all images."""
    example = {size: path for path, size in zip(paths, sizes, strict=True) if size}
    if len(example) > 1:
        shown = ", ".join(f"{_shown(size)} ({path})" for size, path in list(example.items())[:3])
        faults.append(
            f"images of {len(example)} sizes, such as {shown}; give data.size=[HEIGHT,WIDTH]"
        )
        return None
    return next(iter(example), None)


def _shown(size: Size) -> str:
    return f"{size[1]}×{size[0]}"


def load_unlabelled(
    root: str,
    size: Size | None,
    channels: int | None,
    in_memory: bool | None = None,
    setting: str = "data.unlabelled",
) -> tuple[list[str], Images]:
    """Names and images of a folder without masks, whatever folders are in it.

    Args:
        root: the folder.
        size: height and width they are scaled to; None where all are of one size.
        channels: 1, 3 or 4; None: 3, unless all are grey.
        in_memory: hold them decoded; None where they fit.
        setting: that names the folder.

    Raises:
        UserError: there are none, or they are not alike.
    """
    names, paths = unlabelled_files(root, setting)
    if channels is None and _all_grey(paths):
        raise UserError(f"{setting}={root}: {ALL_GREY}")
    channels = channels or 3
    check_channels(channels)
    size = size or size_of_all(paths)
    pixels = size[0] * size[1]
    keep = keeps(in_memory, len(paths) * pixels * channels)
    decode = partial(read_image, size=size, channels=channels)
    return names, FileImages(paths, decode, keep, threads=pixels > SMALL)


def check_channels(channels: int) -> None:
    """Raise `UserError` where images of so many channels cannot be read."""
    if channels not in MODES:
        raise UserError(f"data.channels={channels}: give 1 (grey), 3 (RGB) or 4 (RGBA)")
