"""Classes of image files: a CSV and a contact sheet."""

import csv
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from cls_kd.class_folders import load_images
from cls_kd.task import Classification
from cls_kd.transforms import none
from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.image_files import sides
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.predict import student_and_files
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import write_whole, writing_into

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SHEET = 48  # images on the contact sheet
BATCH = 64


def predict(run: Path, paths: Sequence[Path], out: Path, top: int = 3) -> list[list[str]]:
    """Classify images with a finished student.

    Args:
        run: the run folder.
        paths: image files and folders of them.
        out: where predictions.csv and contact_sheet.png are written.
        top: how many classes an image.

    Returns:
        The rows of the CSV: file, then class and probability, the likeliest first.

    Raises:
        UserError: the run is not finished, or a path is missing, holds no image or a damaged
            one, `top` is below 1, or `out` cannot be written or is where images are read.
    """
    if top < 1:
        raise UserError(f"--top {top}: give how many classes an image, 1 or more")
    student, described, named = student_and_files(Classification.name, run, paths, out)
    files = [file for file, _ in named]
    size = sides(described["size"])
    found = load_images(files, size)
    crop = none(size)
    images = torch.stack([crop(found[number]) for number in range(len(found))])
    likely = _probabilities(student, images).topk(min(top, len(described["classes"])))
    rows = [
        [str(file)]
        + [
            cell
            for p, k in zip(*pair, strict=True)
            for cell in (described["classes"][k], f"{p:.4f}")
        ]
        for file, *pair in zip(files, likely.values.tolist(), likely.indices.tolist(), strict=True)
    ]
    sheet = out / "contact_sheet.png"
    with writing_into(out):
        _write_csv(out / "predictions.csv", rows)
        write_whole(sheet, lambda path: _sheet(path, images[:SHEET], rows[:SHEET]))
    console.print(f"{len(rows)} image{'s' * (len(rows) > 1)}: {out / 'predictions.csv'}, {sheet}")
    return rows


@torch.inference_mode()
def _probabilities(student: BlockNet, images: Tensor) -> Tensor:
    place = student.mean.device
    logits = (student(unit_images(batch.to(place))) for batch in torch.split(images, BATCH))
    return torch.cat([batch.softmax(dim=1).cpu() for batch in logits])


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    places = range(1, (len(rows[0]) - 1) // 2 + 1)
    header = ["file", *(name for n in places for name in (f"class_{n}", f"probability_{n}"))]

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])

    write_whole(path, write)


def _sheet(path: Path, images: Tensor, rows: list[list[str]]) -> None:
    columns = min(8, len(rows))
    lines = -(-len(rows) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(1.7 * columns, 2.1 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, row in zip(axes.flat, images, rows, strict=False):
        axis.imshow(image.permute(1, 2, 0).numpy())
        pairs = zip(row[1::2], row[2::2], strict=True)
        axis.set_title("\n".join(f"{name} {float(p):.0%}" for name, p in pairs), fontsize=7)
    figure.savefig(path, format="png", dpi=120)
    plt.close(figure)
