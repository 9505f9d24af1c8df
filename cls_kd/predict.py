"""Classes of image files: a CSV and a contact sheet."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor

from cls_kd.class_folders import decoder
from cls_kd.task import Classification
from cls_kd.transforms import none
from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.image_files import sides
from stagewise_kd.export.onnx_file import OnnxNet
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.predict import check_read, read_some, student_and_files
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import TEXT, write_whole, writing_into

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SHEET = 48  # images on the contact sheet
WIDE = 22  # letters above an image
BATCH = 64
Classified = tuple[list[str], Tensor]  # a row of the CSV, and its image uint8 (3, H, W)


def predict(
    run: Path, paths: Sequence[Path], out: Path, top: int = 3, factory: str | None = None
) -> int:
    """Classify images with a finished student; any number of them in the same memory.

    Args:
        run: the run folder, or an ONNX file of `export`.
        paths: image files and folders of them.
        out: where predictions.csv and contact_sheet.png are written. A row of the CSV: file, then
            class and probability, the likeliest first.
        top: how many classes an image.
        factory: `module:function` that builds a network of the user's own.

    Returns:
        How many images were classified.

    Raises:
        UserError: the run is not finished, no image can be read, `top` is below 1, or `out` cannot
            be written or is where images are read.
        IncompleteError: some images could not be read; the others are written.
    """
    if top < 1:
        raise UserError(f"--top {top}: give how many classes an image, 1 or more")
    student, described, named = student_and_files(Classification.name, run, paths, out, factory)
    names = described["classes"]
    top = min(top, len(names))
    unreadable: list[str] = []
    found = _classified(student, described, [file for file, _ in named], top, unreadable)
    shown = [*islice(found, SHEET)]
    if shown:
        sheet, table = out / "contact_sheet.png", out / "predictions.csv"
        with writing_into(out):
            write_whole(table, partial(_write_csv, rows=chain(shown, found), top=top))
            write_whole(sheet, partial(_sheet, classified=shown, names=names, count=len(named)))
        count = len(named) - len(unreadable)
        console.print(f"{count} image{'s' * (count > 1)}: {table}, {sheet}")
    check_read(unreadable, len(named))
    return len(named)


@torch.no_grad()
def _classified(
    student: BlockNet | OnnxNet,
    described: dict[str, Any],
    files: Sequence[Path],
    top: int,
    unreadable: list[str],
) -> Iterator[Classified]:
    """The row of each image, and the image as the student sees it."""
    size, names = sides(described["size"]), described["classes"]
    read, crop = decoder(size), none(size)
    for batch in read_some(files, lambda path: crop(read(path)), BATCH, unreadable):
        images = torch.stack([image for _, image in batch])
        logits = student(unit_images(images.to(student.mean.device)))
        likely = logits.softmax(dim=1).cpu().topk(top)
        best = zip(likely.values.tolist(), likely.indices.tolist(), strict=True)
        for (path, image), pairs in zip(batch, best, strict=True):
            cells = [cell for p, k in zip(*pairs, strict=True) for cell in (names[k], f"{p:.4f}")]
            yield [str(path), *cells], image


def _write_csv(path: Path, rows: Iterable[Classified], top: int) -> None:
    header = [name for n in range(1, top + 1) for name in (f"class_{n}", f"probability_{n}")]
    with path.open("w", newline="", **TEXT) as file:
        writer = csv.writer(file)
        writer.writerow(["file", *header])
        writer.writerows(row for row, _ in rows)


def _sheet(path: Path, classified: Sequence[Classified], names: Sequence[str], count: int) -> None:
    columns = min(8, len(classified))
    lines = -(-len(classified) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(1.7 * columns, 2.4 * lines), squeeze=False, layout="constrained"
    )
    figure.suptitle(f"{len(classified)} of {count} image{'s' * (count > 1)}", fontsize=9)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (row, image) in zip(axes.flat, classified, strict=False):
        axis.imshow(image.permute(1, 2, 0).numpy())
        caption, wrong = caption_of(row, names)
        axis.set_title(caption, fontsize=7, color="#b03a00" if wrong else "black", parse_math=False)
    figure.savefig(path, format="png", dpi=120)
    plt.close(figure)


def caption_of(row: Sequence[str], names: Sequence[str]) -> tuple[str, bool]:
    """What stands above an image of the sheet, and whether the likeliest class is a wrong one.

    Args:
        row: of the CSV.
        names: all classes; an image in a folder called by one is of that class.
    """
    path = Path(row[0])
    truth = path.parent.name if path.parent.name in names else None
    lines = [_shortened(path.name)]
    lines += [f"is {_shortened(truth)}"] if truth else []
    pairs = zip(row[1::2], row[2::2], strict=True)
    lines += [f"{_shortened(name)} {float(p):.0%}" for name, p in pairs]
    return "\n".join(lines), truth is not None and truth != row[1]


def _shortened(name: str) -> str:
    """A name without its middle where it is long."""
    return name if len(name) <= WIDE else f"{name[: WIDE // 2]}…{name[-(WIDE // 2 - 1) :]}"
