"""Masks of image files: indexed PNGs and overlays."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from seg_kd.channels import open_image, read_image, scaled, to_tensor
from seg_kd.legend import generated_palette
from seg_kd.task import Segmentation
from seg_kd.transforms import STRIDE
from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.image_files import FileImages, raise_first, read_all, sides
from stagewise_kd.methods.losses import two_or_more
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.predict import Files, student_and_files
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import write_whole, writing_into

OVERLAY = 0.5  # opacity of the mask over the image


def predict(
    run: Path, paths: Sequence[Path], out: Path, tile: int = 1024, overlap: int = 128
) -> list[Path]:
    """Segment images with a finished student.

    A student trained at a fixed `data.size` sees every image at that size, and its mask is scaled
    back; one trained on images as they are sees larger ones in tiles.

    Args:
        run: the run folder.
        paths: image files and folders of them.
        out: where the masks (`<name>.png`, class indices with palette) and `<name>_overlay.jpg` go.
        tile: side of a tile in pixels.
        overlap: pixels that a tile sees of its neighbours on every side, and does not predict.

    Returns:
        The mask files.

    Raises:
        UserError: the run is not finished, or a path is missing, holds no image or a damaged
            one, tile and overlap do not go together, or `out` cannot be written or is where
            images are read.
    """
    if tile % STRIDE or overlap % STRIDE or not 0 <= 2 * overlap < tile:
        raise UserError(
            f"--tile {tile} --overlap {overlap}: give multiples of {STRIDE}, an overlap of 0 or "
            "more, and a tile of more than twice the overlap"
        )
    net, described, files = student_and_files(Segmentation.name, run, paths, out)
    channels = len(net.mean)
    palette = described.get("palette") or generated_palette(len(described["classes"]))
    _check_files(files, channels)
    masks = []
    for file, name in files:
        image = open_image(file, channels)
        mask = segment(net, image, described["size"], tile, overlap)
        target = out / name.with_suffix(".png")
        with writing_into(target.parent):
            _write(target, image, mask, palette)
        masks.append(target)
    console.print(
        f"{len(masks)} mask{'s' * (len(masks) > 1)}, with overlay, in {out}", soft_wrap=True
    )
    return masks


def _check_files(files: Files, channels: int) -> None:
    """Decode every image, and see that each gets a mask of its own."""
    taken: dict[Path, Path] = {}
    read = partial(read_image, size=None, channels=channels)
    _, faults = read_all(FileImages([file for file, _ in files], read), keep=False, threads=True)
    for file, name in files:
        other = taken.setdefault(name.with_suffix(".png"), file)
        if other != file:
            faults.append(f"{other} and {file} would write the same mask; give them one at a time")
    raise_first("cannot segment; replace or leave out", faults)


@torch.inference_mode()
def segment(
    net: BlockNet, image: Image.Image, size: int | list[int] | None, tile: int, overlap: int
) -> np.ndarray:
    """Class indices uint8 (H, W) of an image.

    Args:
        net: the network, in eval mode.
        image: of the network's channels.
        size: height and width at which the network was trained; None for any.
        tile: side of a tile, where `size` is None.
        overlap: margin of a tile.
    """
    if size is None:
        return _tiled(net, to_tensor(image), tile, overlap)
    small = to_tensor(scaled(image, sides(size)))
    logits = F.interpolate(_logits(net, small).cpu(), image.size[::-1], mode="bilinear")
    return _classes(logits)


def _tiled(net: BlockNet, pixels: Tensor, tile: int, overlap: int) -> np.ndarray:
    mask = np.empty(pixels.shape[-2:], np.uint8)
    step = tile - 2 * overlap
    for top, bottom in _spans(mask.shape[0], step):
        for left, right in _spans(mask.shape[1], step):
            y, x = max(0, top - overlap), max(0, left - overlap)
            seen = pixels[:, y : bottom + overlap, x : right + overlap]
            found = _classes(_logits(net, seen))
            mask[top:bottom, left:right] = found[top - y :, left - x :][
                : bottom - top, : right - left
            ]
    return mask


def _spans(length: int, step: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, step):
        yield start, min(start + step, length)


def _logits(net: BlockNet, pixels: Tensor) -> Tensor:
    """Logits (1, K, H, W) of an image uint8 (C, H, W) of any size."""
    height, width = pixels.shape[-2:]
    image = unit_images(pixels[None].to(net.mean.device))
    padded = F.pad(image, (0, -width % STRIDE, 0, -height % STRIDE))
    return two_or_more(net(padded))[..., :height, :width]


def _classes(logits: Tensor) -> np.ndarray:
    return logits[0].argmax(dim=0).to(torch.uint8).cpu().numpy()


def _write(path: Path, image: Image.Image, mask: np.ndarray, palette: Sequence[Any]) -> None:
    indexed = Image.fromarray(mask)
    indexed.putpalette([level for colour in palette for level in colour])
    overlay = Image.blend(image.convert("RGB"), indexed.convert("RGB"), OVERLAY)
    shown = path.with_name(f"{path.stem}_overlay.jpg")
    write_whole(path, lambda temporary: indexed.save(temporary, format="PNG"))
    write_whole(shown, lambda temporary: overlay.save(temporary, format="JPEG", quality=90))
