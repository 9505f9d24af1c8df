"""Finding, checking and decoding image files."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from cls_kd.transforms import SMALL
from stagewise_kd.errors import UserError, raise_faults

Size = tuple[int, int]
MARGIN = 256 / 224  # images above `SMALL` are kept this much larger than they are used
IN_MEMORY_SHARE = 0.25  # of the machine's memory


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder, sorted."""
    return sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in IMG_EXTENSIONS and not p.name.startswith(".")
    )


def decode(path: Path, size: Size, margin: float = 1.0) -> Tensor:
    """Read an image as uint8 (3, H, W), scaled so that it just covers `size` times `margin`.

    Raises:
        OSError: the file is no image, or damaged.
    """
    height, width = (round(side * margin) for side in size)
    with Image.open(path) as file:
        file.draft("RGB", (width, height))  # JPEG: decode no finer than needed
        image = file.convert("RGB")
    scale = max(height / image.height, width / image.width)
    if scale != 1:
        wanted = (round(image.width * scale), round(image.height * scale))
        image = image.resize(wanted, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class FileImages(Sequence[Tensor]):
    """Images decoded from their files at each access."""

    def __init__(self, paths: Sequence[Path], size: Size, margin: float) -> None:
        self.paths = paths
        self._decode = partial(decode, size=size, margin=margin)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        return self._decode(self.paths[index])


def load_images(paths: Sequence[Path], size: Size) -> Sequence[Tensor]:
    """Decode all images once, which finds the damaged ones; keep them in memory where they fit.

    Raises:
        UserError: names every file that cannot be read.
    """
    margin = MARGIN if max(size) > SMALL else 1.0
    images = FileImages(paths, size, margin)
    keep = 3 * len(paths) * size[0] * size[1] * margin**2 < IN_MEMORY_SHARE * _memory_bytes()

    def read(index: int) -> Tensor | str | None:
        try:
            image = images[index]
        except Exception as error:  # Pillow raises nearly anything on a damaged file
            return f"{paths[index]} ({error})"
        return image if keep else None

    if max(size) <= SMALL:  # threads cost more than decoding a small image
        found = [read(index) for index in range(len(paths))]
    else:
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(read, range(len(paths))))
    _raise_damaged([item for item in found if isinstance(item, str)])
    return [item for item in found if isinstance(item, Tensor)] if keep else images


def _raise_damaged(faults: list[str]) -> None:
    shown = faults[:20] + ([f"and {len(faults) - 20} more"] if len(faults) > 20 else [])
    raise_faults(f"{len(faults)} images cannot be read; replace or delete them", shown)


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def find_classes(root: Path, splits: Iterable[str]) -> dict[str, dict[str, list[Path]]]:
    """Image files by split and class folder.

    Raises:
        UserError: lists folders without images and splits whose classes differ.
    """
    found = {
        split: {
            folder.name: find_images(folder)
            for folder in sorted((root / split).iterdir())
            if folder.is_dir() and not folder.name.startswith(".")
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
        faults.append(f"{root / 'train'} holds {len(classes)} class folders, at least 2 are needed")
    raise_faults(f"{root}: not a usable image folder", faults)
    return found


def existing_root(root: str | None, name: str, marks: Sequence[str]) -> Path:
    """The folder that holds one of `marks`: `root` itself, or the folder of the data set in it.

    Raises:
        UserError: there is no such folder.
    """
    if root is None:
        raise UserError(f"data={name} needs data.root=DIR, the folder that holds {marks[0]}/")
    path = Path(root)
    if not path.is_dir():
        raise UserError(f"data.root={root}: no such folder")
    for candidate in (path, path / name):
        if any((candidate / mark).is_dir() for mark in marks):
            return candidate
    held = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
    raise UserError(f"data.root={root}: expected {' or '.join(marks)} in it, found {held}")
