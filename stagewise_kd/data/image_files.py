"""Checking and decoding image files."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from stagewise_kd.system.errors import IncompleteError, UserError, raise_faults
from stagewise_kd.system.processes import world_size

Size = tuple[int, int]  # height and width
IN_MEMORY_SHARE = 0.25  # of the machine's memory
ORIENTATION = 0x0112  # of EXIF
SHOWN = 20  # faults of a data set that are listed
BYTES = 6  # of memory for a pixel and what is made of it
CONTAINER = Path("/sys/fs/cgroup/memory.max")
LARGE = 1e9  # bytes; images that take less are not held against what is free


class Images(Protocol):
    """Uint8 images (C, H, W), masks (H, W) or other labels by number; in memory or not."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def sides(size: int | Sequence[int]) -> Size:
    """Height and width of one side in pixels, or of both."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def open_picture(path: Path) -> Image.Image:
    """Open an image file, however large: Pillow's limit is meant for the files of strangers.

    Raises:
        OSError: the file is no image.
    """
    Image.MAX_IMAGE_PIXELS = None
    return Image.open(path)


def check_pixels(file: Image.Image) -> None:
    """Refuse pixels of more than 8 bits, which a conversion would clip, and more than memory holds.

    Raises:
        ValueError: says what arrived.
    """
    if file.mode.startswith(("I", "F")):
        raise ValueError(f"mode {file.mode}: pixels of more than 8 bits; convert it to 8")
    needed = BYTES * file.width * file.height
    if needed > LARGE and needed > (free := psutil.virtual_memory().available):
        raise ValueError(
            f"{file.width}×{file.height} pixels take {needed / 1e9:.1f} GB of memory, "
            f"{free / 1e9:.1f} are free; cut it into several files"
        )


def decoded(file: Image.Image, mode: str) -> Image.Image:
    """An opened image upright and in a mode, without a copy where it is so already."""
    image = upright(file)
    image.load()
    return image if image.mode == mode else image.convert(mode)


def upright(file: Image.Image) -> Image.Image:
    """An image as it is meant to be seen: phones tell by EXIF how they were held."""
    return file if file.getexif().get(ORIENTATION, 1) == 1 else ImageOps.exif_transpose(file)


def upright_size(file: Image.Image) -> Size:
    """Height and width of an image as it is meant to be seen, from its header."""
    lies = file.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    return (file.width, file.height) if lies else (file.height, file.width)


class FileImages:
    """Images decoded from their files: at each access, or once where they are held in memory.

    Args:
        paths: the files.
        decode: reads one.
        keep: whether what was read is held in memory.
        threads: read by several, which cost more than decoding a small image.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        decode: Callable[[Path], Tensor],
        keep: bool = False,
        threads: bool = False,
    ) -> None:
        self.paths = paths
        self._decode = decode
        self.keep = keep
        self._threads = threads
        self._known: dict[int, Tensor | None] = {}  # read already; None where it is not kept

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        found = self._decoded(index)
        if isinstance(found, str):
            raise UserError(f"cannot read {found}; replace or delete it")
        return found

    def content(self, index: int) -> bytes:
        """What lies in a file, which is the same at any size."""
        return self.paths[index].read_bytes()

    def read(
        self,
        numbers: Sequence[int] | None = None,
        look: Callable[[int, Tensor], object] = lambda number, image: None,
    ) -> list[str]:
        """Decode images that were not read before, which finds the damaged ones.

        Args:
            numbers: of the images; None: all.
            look: sees each image, with its number.

        Returns:
            A fault for each unreadable file.
        """
        wanted = range(len(self)) if numbers is None else numbers
        new = [number for number in wanted if number not in self._known]
        if not self._threads:
            return [fault for number in new if (fault := self._read(number, look))]
        with ThreadPoolExecutor() as pool:
            return [fault for fault in pool.map(partial(self._read, look=look), new) if fault]

    def _read(self, number: int, look: Callable[[int, Tensor], object]) -> str | None:
        found = self._decoded(number)
        if isinstance(found, str):
            return found
        look(number, found)
        self._known[number] = found if self.keep else None
        return None

    def _decoded(self, number: int) -> Tensor | str:
        """An image, or what is wrong with its file."""
        held = self._known.get(number)
        if held is not None:
            return held
        try:
            return self._decode(self.paths[number])
        except Exception as error:  # Pillow raises nearly anything on a damaged file
            return f"{self.paths[number]} ({error})"


class ScaledImages:
    """Images in memory, scaled at each access until they cover a size: they stay as small there."""

    def __init__(self, images: Tensor, size: Size) -> None:
        self._images = images
        height, width = images.shape[2:]
        scale = max(size[0] / height, size[1] / width)
        self._size = [round(height * scale), round(width * scale)]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        image = self._images[index][None]
        return interpolate(image, self._size, mode="bilinear", antialias=True)[0]

    def content(self, index: int) -> bytes:
        """What tells one image from another, which is the same at any size."""
        return content(self._images, index)


class Subset:
    """Some images or labels, by their places."""

    def __init__(self, images: Images, places: Sequence[int]) -> None:
        self._images = images
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Any:
        return self._images[self._places[index]]

    def source(self, index: int) -> tuple[Images, int]:
        """The images that one is taken from, and its number there."""
        return self._images, self._places[index]

    def content(self, index: int) -> bytes:
        """What tells one image or label from another: of a file its bytes."""
        return content(self._images, self._places[index])


def content(images: Any, index: int) -> bytes:
    """What tells one image or label from another, without decoding a file."""
    if hasattr(images, "content"):
        return bytes(images.content(index))
    value = torch.as_tensor(images[index]).cpu().contiguous()
    told = f"{tuple(value.shape)} {value.dtype} ".encode()
    return told + value.reshape(-1).view(torch.uint8).numpy().tobytes()


def places(names: Sequence[str], chosen: Sequence[str]) -> list[int]:
    """Places of the chosen names among all names."""
    place = {name: index for index, name in enumerate(names)}
    return [place[name] for name in chosen]


def raise_first(
    subject: str, faults: Sequence[str], kind: type[UserError | IncompleteError] = UserError
) -> None:
    """Raise one error that lists the first faults and counts the others."""
    rest = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    raise_faults(subject, [*faults[:SHOWN], *rest], kind)


def keeps(in_memory: bool | None, size: float) -> bool:
    """Whether decoded images of so many bytes are held in memory.

    Args:
        in_memory: as the config says; None where they are a small part of the memory, of which
            each process of the run holds its own.
        size: bytes.
    """
    if in_memory is not None:
        return in_memory
    return size < IN_MEMORY_SHARE * _memory() / world_size()


def _memory() -> int:
    """Bytes of memory of the machine, or those that its container or job may take."""
    whole = psutil.virtual_memory().total
    try:
        return min(whole, int(CONTAINER.read_text()))
    except (OSError, ValueError):  # there is no such limit, or it is "max"
        return whole
