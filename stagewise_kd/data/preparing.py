"""Pictures as a student takes them: what predicting does with one before the network sees it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.image_files import Size, check_pixels, decoded, upright_size
from stagewise_kd.system.errors import UserError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by channels
SMALL = 96  # pixels: images of up to this size are used whole
MARGIN = 256 / 224  # larger ones are kept this much larger than they are used
STRIDE = 32  # what the sides of a segmentation network's input are a multiple of


def picture(file: Image.Image, channels: int) -> Image.Image:
    """An opened image upright, in the mode of so many channels.

    Raises:
        OSError: the file is damaged.
        ValueError: its pixels do not fit 8 bits, or it has no fourth channel where 4 are wanted.
    """
    check_pixels(file)
    if channels == 4 and file.mode != "RGBA":
        raise ValueError(f"mode {file.mode}; data.channels=4 needs RGBA")
    return decoded(file, MODES[channels])


def covering(file: Image.Image, size: Size, channels: int = 3) -> Image.Image:
    """An opened image scaled so that it just covers a size.

    Raises:
        OSError: the file is damaged.
        ValueError: its pixels do not fit 8 bits.
    """
    height, width = size
    lies = upright_size(file) != (file.height, file.width)
    # JPEG: decode no finer than needed
    file.draft("RGB", (height, width) if lies else (width, height))
    image = picture(file, channels)
    scale = max(height / image.height, width / image.width)
    if scale == 1:
        return image
    wanted = (round(image.width * scale), round(image.height * scale))
    return image.resize(wanted, Image.Resampling.BILINEAR)


def covered(size: Size) -> Size:
    """The size that a picture covers of which the middle of a size is used."""
    return size if max(size) <= SMALL else (round(size[0] * MARGIN), round(size[1] * MARGIN))


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


class Preprocess(v2.Transform):
    """A PIL image, or a uint8 tensor (C, H, W) or (B, C, H, W), to a network's input.

    Bit for bit what `predict` gives the network. A photograph that `Image.open` has not read yet is
    read no finer than needed, as there.

    Args:
        size: height and width that the network was trained at; None: images as they are.
        mean: per-channel mean of the input, for images in [0, 1].
        std: per-channel standard deviation, likewise.
        crops: the picture covers the size and its middle is used, as for classes; else the whole
            picture is scaled to the size, and padded with black at the right and the bottom to a
            multiple of 32, as for masks.

    Raises:
        UserError: no picture has so many channels.
    """

    def __init__(
        self, size: Size | None, mean: Sequence[float], std: Sequence[float], crops: bool
    ) -> None:
        super().__init__()
        if len(mean) not in MODES:
            raise UserError(f"preprocess: the network takes {len(mean)} channels, pictures 1, 3, 4")
        self.size, self.mean, self.std, self.crops = size, [*mean], [*std], crops

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The input (C, H, W) of one picture, or a batch of a batch.

        Raises:
            UserError: a tensor is no picture.
            ValueError: the pixels of an image do not fit 8 bits, or it lacks a fourth channel.
        """
        if isinstance(inpt, Tensor) and inpt.ndim == 4:
            return torch.stack([self.transform(image, params) for image in inpt])
        image = _as_picture(inpt) if isinstance(inpt, Tensor) else inpt
        found = unit_images(self._pixels(image)[None])[0]
        if not self.crops:
            height, width = found.shape[1:]
            found = F.pad(found, (0, -width % STRIDE, 0, -height % STRIDE))
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (found - mean) / std

    def _pixels(self, image: Image.Image) -> Tensor:
        """Uint8 (C, H, W) of the network's size."""
        channels = len(self.mean)
        if self.crops and self.size:
            whole = to_tensor(covering(image, covered(self.size), channels))
            return v2.functional.center_crop(whole, [*self.size])
        found = picture(image, channels)
        return to_tensor(scaled(found, self.size) if self.size else found)


def _as_picture(pixels: Tensor) -> Image.Image:
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or len(pixels) not in MODES:
        raise UserError(
            f"preprocess: a tensor {pixels.dtype} {tuple(pixels.shape)}; expected a PIL image, or "
            "torch.uint8 (C, H, W) of 1, 3 or 4 channels"
        )
    array = np.ascontiguousarray(pixels.permute(1, 2, 0).cpu())
    return Image.fromarray(array[..., 0] if len(pixels) == 1 else array)
