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

from seg_kd.channels import open_image
from seg_kd.legend import generated_palette
from seg_kd.masks import Mask
from seg_kd.task import Segmentation
from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.image_files import raise_first, sides
from stagewise_kd.data.preparing import STRIDE, scaled, to_tensor
from stagewise_kd.export.onnx_file import OnnxNet
from stagewise_kd.methods.losses import two_or_more
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.predict import Files, check_read, read_some, student_and_files
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import write_whole, writing_into

OVERLAY = 0.5  # opacity of the mask over the image
ENLARGED = 256  # side of what is enlarged at a time
JPEG_SIDE = 65_500  # pixels: the most that a JPEG has
Box = tuple[int, int, int, int]


def predict(
    run: Path,
    paths: Sequence[Path],
    out: Path,
    tile: int = 1024,
    overlap: int = 128,
    factory: str | None = None,
) -> list[Path]:
    """Segment images with a finished student.

    A student trained at a fixed `data.size` sees every image at that size, and its mask is scaled
    back; one trained on images as they are sees larger ones in tiles. An image at a time is held.

    Args:
        run: the run folder, or an ONNX file of `export`.
        paths: image files and folders of them.
        out: where the masks (`<name>.png`, class indices with palette) and `<name>_overlay.jpg` go.
        tile: side of a tile in pixels.
        overlap: pixels that a tile sees of its neighbours on every side, and does not predict.
        factory: `module:function` that builds a network of the user's own.

    Returns:
        The mask files.

    Raises:
        UserError: the run is not finished, no image can be read, two would have the same mask, tile
            and overlap do not go together, or `out` cannot be written or is where images are read.
        IncompleteError: some images could not be read; the others are written.
    """
    if tile % STRIDE or overlap % STRIDE or not 0 <= 2 * overlap < tile:
        raise UserError(
            f"--tile {tile} --overlap {overlap}: give multiples of {STRIDE}, an overlap of 0 or "
            "more, and a tile of more than twice the overlap"
        )
    net, described, files = student_and_files(Segmentation.name, run, paths, out, factory)
    targets = _targets(files, out)
    palette = described.get("palette") or generated_palette(len(described["classes"]))
    read = partial(open_image, channels=len(net.mean))
    unreadable: list[str] = []
    masks = []
    for ((file, image),) in read_some([*targets], read, 1, unreadable):
        mask = segment(net, image, described["size"], tile, overlap)
        with writing_into(targets[file].parent):
            _write(targets[file], image, mask, palette)
        masks.append(targets[file])
    if masks:
        console.print(
            f"{len(masks)} mask{'s' * (len(masks) > 1)}, with overlay, in {out}", soft_wrap=True
        )
    check_read(unreadable, len(targets))
    return masks


def _targets(files: Files, out: Path) -> dict[Path, Path]:
    """The mask of each image; each gets one of its own."""
    targets: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    faults = []
    for file, name in files:
        target = targets.setdefault(file, out / name.with_suffix(".png"))
        if (other := taken.setdefault(target, file)) != file:
            faults.append(f"{other} and {file} would write the same mask; give them one at a time")
    raise_first("cannot segment", faults)
    return targets


@torch.no_grad()
def segment(
    net: BlockNet | OnnxNet,
    image: Image.Image,
    size: int | list[int] | None,
    tile: int,
    overlap: int,
) -> Mask:
    """Class indices uint8 (H, W) of an image; beside both, only what a tile takes is held.

    Args:
        net: the network, in eval mode.
        image: of the network's channels.
        size: height and width at which the network was trained; None for any.
        tile: side of a tile, where `size` is None.
        overlap: margin of a tile.
    """
    mask = np.empty(image.size[::-1], np.uint8)
    if size is None:
        predict_box = partial(_tile, net, image, overlap)
        step = tile - 2 * overlap
    else:
        small = _logits(net, to_tensor(scaled(image, sides(size)))).cpu()
        predict_box = partial(_enlarged, small, mask.shape)
        step = ENLARGED
    for box in _boxes(image.size, step):
        left, top, right, bottom = box
        mask[top:bottom, left:right] = predict_box(box)
    return mask


def _tile(net: BlockNet | OnnxNet, image: Image.Image, overlap: int, box: Box) -> Mask:
    """Class indices in a box, of which the network sees a margin too."""
    left, top, right, bottom = box
    x, y = max(0, left - overlap), max(0, top - overlap)
    end = min(image.width, right + overlap), min(image.height, bottom + overlap)
    found = _classes(_logits(net, to_tensor(image.crop((x, y, *end)))))
    return found[top - y : bottom - y, left - x : right - x]


def _enlarged(logits: Tensor, whole: tuple[int, ...], box: Box) -> Mask:
    """Class indices in a box of logits (1, K, h, w) enlarged to the whole's height and width."""
    left, top, right, bottom = box
    rows, columns = (
        (2 * torch.arange(*span) + 1) / side - 1  # centres of pixels, from -1 to 1
        for span, side in zip(((top, bottom), (left, right)), whole, strict=True)
    )
    places = torch.stack([*torch.meshgrid(rows, columns, indexing="ij")][::-1], dim=-1)
    return _classes(F.grid_sample(logits, places[None], "bilinear", "border", align_corners=False))


def _boxes(size: tuple[int, int], step: int) -> Iterator[Box]:
    """Boxes (left, top, right, bottom) that cover an image of a width and height."""
    width, height = size
    for top in range(0, height, step):
        for left in range(0, width, step):
            yield left, top, min(left + step, width), min(top + step, height)


def _logits(net: BlockNet | OnnxNet, pixels: Tensor) -> Tensor:
    """Logits (1, K, H, W) of an image uint8 (C, H, W) of any size."""
    height, width = pixels.shape[-2:]
    image = unit_images(pixels[None].to(net.mean.device))
    padded = F.pad(image, (0, -width % STRIDE, 0, -height % STRIDE))
    return two_or_more(net(padded))[..., :height, :width]


def _classes(logits: Tensor) -> Mask:
    return logits[0].argmax(dim=0).to(torch.uint8).cpu().numpy()


def _write(path: Path, image: Image.Image, mask: Mask, palette: Sequence[Any]) -> None:
    """Write mask and overlay; the image becomes the overlay, for a copy of it may be large."""
    indexed = Image.fromarray(mask)
    indexed.putpalette([level for colour in palette for level in colour])
    write_whole(path, lambda temporary: indexed.save(temporary, format="PNG"))
    overlay = image if image.mode == "RGB" else image.convert("RGB")
    for box in _boxes(image.size, ENLARGED):
        colours = indexed.crop(box).convert("RGB")
        overlay.paste(Image.blend(overlay.crop(box), colours, OVERLAY), box)
    overlay.thumbnail((JPEG_SIDE, JPEG_SIDE))
    shown = path.with_name(f"{path.stem}_overlay.jpg")
    write_whole(shown, lambda temporary: overlay.save(temporary, format="JPEG", quality=90))
