"""Finding and decoding the images of classes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cls_kd.transforms import SMALL
from stagewise_kd.data.finding import find_images, is_hidden, say_left_out, unlabelled_files
from stagewise_kd.data.image_files import (
    FileImages,
    Images,
    Size,
    check_depth,
    keeps,
    raise_first,
    read_all,
    upright,
    upright_size,
)
from stagewise_kd.system.errors import raise_faults

MARGIN = 256 / 224  # images above `SMALL` are kept this much larger than they are used


def decode(path: Path, size: Size, margin: float = 1.0) -> Tensor:
    """Read an image as uint8 (3, H, W), scaled so that it just covers `size` times `margin`.

    Raises:
        OSError: the file is no image, or damaged.
        ValueError: its pixels do not fit 8 bits.
    """
    height, width = (round(side * margin) for side in size)
    with Image.open(path) as file:
        check_depth(file)
        lies = upright_size(file) != (file.height, file.width)
        # JPEG: decode no finer than needed
        file.draft("RGB", (height, width) if lies else (width, height))
        image = upright(file).convert("RGB")
    scale = max(height / image.height, width / image.width)
    if scale != 1:
        wanted = (round(image.width * scale), round(image.height * scale))
        image = image.resize(wanted, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def load_images(paths: Sequence[Path], size: Size, in_memory: bool | None = None) -> Images:
    """Decode all images once, which finds the damaged ones.

    Args:
        paths: the files.
        size: height and width that they are used at.
        in_memory: hold them decoded; None where they fit.

    Raises:
        UserError: names the files that cannot be read.
    """
    margin = MARGIN if max(size) > SMALL else 1.0
    keep = keeps(in_memory, 3 * len(paths) * size[0] * size[1] * margin**2)
    files = FileImages(paths, partial(decode, size=size, margin=margin))
    images, faults = read_all(files, keep, threads=max(size) > SMALL)
    raise_first("cannot read every image; replace or delete", faults)
    return images


def load_folder(root: str, size: Size) -> tuple[list[str], Images]:
    """Names and images of a folder without classes, whatever folders are in it.

    Raises:
        UserError: there are none, or names those that cannot be read.
    """
    names, paths = unlabelled_files(root)
    return names, load_images(paths, size)


def find_classes(root: Path, splits: Iterable[str]) -> dict[str, dict[str, list[Path]]]:
    """Image files by split and class folder.

    Raises:
        UserError: lists folders without images and splits whose classes differ.
    """
    left_out: Counter[str] = Counter()
    found = {
        split: {
            folder.name: find_images(folder, left_out)
            for folder in sorted((root / split).iterdir())
            if folder.is_dir() and not is_hidden(folder.name)
        }
        for split in splits
    }
    classes = set(found["train"])
    faults = [
        f"{root / split / name} holds no images"
        for split, members in found.items()
        for name, paths in members.items()
        if not paths
    ]
    for split, members in found.items():
        if extra := set(members) ^ classes:
            faults.append(f"{split}/ and train/ differ in the classes {', '.join(sorted(extra))}")
    if len(classes) < 2:
        faults.append(f"class folders in {root / 'train'}: {len(classes)}, at least 2 are needed")
    raise_faults(f"{root}: not a usable image folder", faults)
    say_left_out(root, left_out)
    return found
