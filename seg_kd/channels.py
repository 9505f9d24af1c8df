"""Image files as what a network of 1, 3 or 4 channels reads."""

from pathlib import Path

from PIL import Image
from torch import Tensor

from stagewise_kd.data.image_files import Size, open_picture
from stagewise_kd.data.preparing import picture, scaled, to_tensor


def read_image(path: Path, size: Size | None, channels: int) -> Tensor:
    """Read an image as uint8 (C, H, W).

    Args:
        path: the file.
        size: scaled to it, whatever that does to its proportions; None leaves the size.
        channels: 1, 3 or 4.

    Raises:
        OSError: the file is no image, or damaged.
        ValueError: its pixels do not fit 8 bits, or it has no fourth channel where 4 are wanted.
    """
    image = open_image(path, channels)
    return to_tensor(image if size is None else scaled(image, size))


def open_image(path: Path, channels: int) -> Image.Image:
    """Read an image; see `read_image`."""
    with open_picture(path) as file:
        return picture(file, channels)
