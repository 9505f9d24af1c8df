"""Image files as what a network of 1, 3 or 4 channels reads."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stagewise_kd.data.image_files import Size, check_pixels, decoded, open_picture

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by channels


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
        check_pixels(file)
        if channels == 4 and file.mode != "RGBA":
            raise ValueError(f"mode {file.mode}; data.channels=4 needs RGBA")
        return decoded(file, MODES[channels])


def scaled(image: Image.Image, size: Size) -> Image.Image:
    """Bilinear, over all pixels that shrink into one."""
    if image.size == size[::-1]:
        return image
    if image.mode != "RGBA":
        return image.resize(size[::-1], Image.Resampling.BILINEAR)
    # One by one: Pillow would weigh the colours by the fourth channel.
    bands = [band.resize(size[::-1], Image.Resampling.BILINEAR) for band in image.split()]
    return Image.merge(image.mode, bands)


def to_tensor(image: Image.Image) -> Tensor:
    """An image as uint8 (C, H, W)."""
    pixels = np.array(image)
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
