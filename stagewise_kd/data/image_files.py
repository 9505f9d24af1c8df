"""Finding, checking and decoding image files."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import psutil
from PIL import Image, ImageOps
from torch import Tensor

from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError, raise_faults
from stagewise_kd.system.processes import rank

Size = tuple[int, int]  # height and width
IN_MEMORY_SHARE = 0.25  # of the machine's memory
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}  # need programs beside Pillow
ORIENTATION = 0x0112  # of EXIF
SHOWN = 20  # faults of a data set that are listed


class Images(Protocol):
    """Uint8 images (C, H, W), masks (H, W) or other labels by number; in memory or not."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def sides(size: int | Sequence[int]) -> Size:
    """Height and width of one side in pixels, or of both."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def check_depth(file: Image.Image) -> None:
    """Refuse pixels of more than 8 bits, which a conversion would clip.

    Raises:
        ValueError: says what arrived.
    """
    if file.mode.startswith(("I", "F")):
        raise ValueError(f"mode {file.mode}: pixels of more than 8 bits; convert it to 8")


def upright(file: Image.Image) -> Image.Image:
    """An image as it is meant to be seen: phones tell by EXIF how they were held."""
    return file if file.getexif().get(ORIENTATION, 1) == 1 else ImageOps.exif_transpose(file)


def upright_size(file: Image.Image) -> Size:
    """Height and width of an image as it is meant to be seen, from its header."""
    lies = file.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    return (file.width, file.height) if lies else (file.height, file.width)


class FileImages:
    """Images decoded from their files at each access."""

    def __init__(self, paths: Sequence[Path], decode: Callable[[Path], Tensor]) -> None:
        self.paths = paths
        self._decode = decode

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self._decode(self.paths[index])


class Subset:
    """Some images or labels, by their places."""

    def __init__(self, images: Images, places: Sequence[int]) -> None:
        self._images = images
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Any:
        return self._images[self._places[index]]


def places(names: Sequence[str], chosen: Sequence[str]) -> list[int]:
    """Places of the chosen names among all names."""
    place = {name: index for index, name in enumerate(names)}
    return [place[name] for name in chosen]


@cache
def readable() -> set[str]:
    """Suffixes of the pictures that Pillow opens."""
    Image.init()
    known = Image.registered_extensions().items()
    return {suffix for suffix, kind in known if kind in Image.OPEN and kind not in NO_PICTURES}


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that a system keeps beside the user's own."""
    return name.startswith(".") or name in ("@eaDir", "__MACOSX")


def find_images(folder: Path, left_out: Counter[str] | None = None) -> list[Path]:
    """All image files below a folder, sorted; hidden ones and those in hidden folders are not.

    Args:
        folder: is searched to any depth.
        left_out: counts the other files by suffix.
    """
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if any(is_hidden(part) for part in path.relative_to(folder).parts):
            continue
        if path.suffix.lower() in readable():
            found.append(path)
        elif left_out is not None:
            left_out[path.suffix.lower() or path.name] += 1
    return found


def say_left_out(root: Path | str, left_out: Counter[str]) -> None:
    """Say in one line which files are no images that can be read."""
    if left_out and rank() == 0:
        told = ", ".join(f"{count} {suffix}" for suffix, count in left_out.most_common())
        console.print(f"{root}: left out, no images: {told}", soft_wrap=True, highlight=False)


def unlabelled_files(root: str) -> tuple[list[str], list[Path]]:
    """Names and files of the images in `data.unlabelled`.

    Raises:
        UserError: there are none.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(f"data.unlabelled={root}: no such folder")
    left_out: Counter[str] = Counter()
    paths = find_images(folder, left_out)
    if not paths:
        raise UserError(f"data.unlabelled={root}: holds no images")
    say_left_out(root, left_out)
    return [f"unlabelled/{path.relative_to(folder).as_posix()}" for path in paths], paths


def read_all(images: FileImages, keep: bool, threads: bool) -> tuple[Images, list[str]]:
    """Decode all images once, which finds the damaged ones.

    Args:
        images: the files.
        keep: hold the decoded images in memory.
        threads: use several; they cost more than decoding a small image.

    Returns:
        The images, decoded already where they are kept, and a fault for each unreadable file.
    """

    def read(index: int) -> Tensor | str | None:
        try:
            image = images[index]
        except Exception as error:  # Pillow raises nearly anything on a damaged file
            return f"{images.paths[index]} ({error})"
        return image if keep else None

    if threads:
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(read, range(len(images))))
    else:
        found = [read(index) for index in range(len(images))]
    faults = [item for item in found if isinstance(item, str)]
    return [item for item in found if isinstance(item, Tensor)] if keep else images, faults


def raise_first(subject: str, faults: Sequence[str]) -> None:
    """Raise one `UserError` that lists the first faults and counts the others."""
    rest = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    raise_faults(subject, [*faults[:SHOWN], *rest])


def keeps(in_memory: bool | None, size: float) -> bool:
    """Whether decoded images of so many bytes are held in memory.

    Args:
        in_memory: as the config says; None where they are a small part of the machine's memory.
        size: bytes.
    """
    if in_memory is not None:
        return in_memory
    return size < IN_MEMORY_SHARE * psutil.virtual_memory().total


def existing_root(root: str | None, name: str, marks: Sequence[str]) -> Path:
    """The folder that holds one of `marks`: `root` itself, or the folder of the data set in it.

    Args:
        root: what the config says.
        name: of the data set, and of its folder, in whatever case.
        marks: names of folders.

    Raises:
        UserError: there is no such folder.
    """
    if root is None:
        raise UserError(f"data={name} needs data.root=DIR, the folder that holds {marks[0]}/")
    path = Path(root)
    if not path.is_dir():
        raise UserError(f"data.root={root}: no such folder")
    held = sorted(path.iterdir())
    for candidate in (path, *(p for p in held if p.name.lower() == name.lower())):
        if any((candidate / mark).is_dir() for mark in marks):
            return candidate
    shown = ", ".join(p.name for p in held[:8]) or "nothing"
    raise UserError(f"data.root={root}: expected {' or '.join(marks)} in it, found {shown}")


def part_folders(root: Path, given: str | None) -> list[str]:
    """Which of train/, val/ and test/ there are.

    Args:
        root: the folder that holds them.
        given: how the config names it.

    Raises:
        UserError: there is only train/.
    """
    splits = [split for split in ("train", "val", "test") if (root / split).is_dir()]
    if len(splits) == 1:
        raise UserError(
            f"data.root={given}: holds {splits[0]}/ only; put the images to report on in test/"
        )
    return splits
