"""Test images side by side: truth, teacher, and every student of a comparison."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seg_kd import front_end
from seg_kd.masks import VOID
from seg_kd.metrics import overlaps
from stagewise_kd.comparison.page import Exhibit
from stagewise_kd.data.samples import Colour
from stagewise_kd.runs.gallery import Shown, seen, shown_runs

Mask = NDArray[np.uint8]


def gallery(paths: Sequence[Path], count: int = 8) -> list[Exhibit]:
    """The test images that the students get worst, worst first.

    Without masks those where they agree least with the teacher. Only runs on the data of the first
    run are shown, one of each group of seeds.

    Args:
        paths: run folders, or folders of them.
        count: how many images.

    Raises:
        UserError: a run is not finished or of classification.
    """
    shown = shown_runs(front_end, paths)
    if shown is None:
        return []
    nets = shown.teacher | shown.students
    masks = {name: seen(net, shown, _classes).numpy() for name, net in nets.items()}
    numbers = range(len(shown.names))
    scores = [_score({name: found[i] for name, found in masks.items()}, shown, i) for i in numbers]
    called = "mIoU" if shown.labelled else "agreement"
    return [
        _exhibit(
            f"{shown.names[i]}, {called} {scores[i]:.2f}",
            shown.data.test[i],  # type: ignore[index]
            {name: found[i] for name, found in masks.items()},
            shown,
        )
        for i in sorted(numbers, key=lambda number: scores[number])[:count]
    ]


def _classes(logits: Tensor) -> Tensor:
    return logits.argmax(dim=1).to(torch.uint8)


def _score(masks: dict[str, Mask], shown: Shown, number: int) -> float:
    """Of the students on an image: their mean IoU, or how far they agree with the teacher."""
    students = [masks[name] for name in shown.students]
    if shown.labelled:
        truth = np.asarray(shown.data.test[number][1])
        return float(np.mean([image_miou(mask, truth) for mask in students]))
    teacher = next((masks[name] for name in shown.teacher), students[0])
    return float(np.mean([mask == teacher for mask in students]))


def image_miou(predicted: Mask, truth: Mask) -> float:
    """Mean IoU of one image over the classes in its truth; 1 where it has no labels.

    Args:
        predicted: class indices, (H, W).
        truth: class indices, (H, W); void pixels do not count.
    """
    known = truth != VOID
    if not known.any():
        return 1.0
    classes = int(max(predicted.max(), truth[known].max())) + 1
    pairs = truth[known].astype(np.int64) * classes + predicted[known]
    matrix = torch.from_numpy(np.bincount(pairs, minlength=classes**2).reshape(classes, classes))
    hits, there, found = overlaps(matrix.double())
    return float((hits / (there + found - hits).clamp_min(1))[there > 0].mean())


def _exhibit(title: str, sample: Any, masks: dict[str, Mask], shown: Shown) -> Exhibit:
    image, truth = (np.asarray(part) for part in sample)
    seen = np.ascontiguousarray(np.broadcast_to(image[:3].transpose(1, 2, 0), (*truth.shape, 3)))
    every = {"truth": truth, **masks} if shown.labelled else masks
    classes, palette = shown.described["classes"], shown.described["palette"]
    return Exhibit(
        title,
        [("image", seen), *((name, coloured(mask, palette)) for name, mask in every.items())],
        masks=every,
        class_labels={**dict(enumerate(classes)), VOID: "void"},
        image=seen,
    )


def coloured(mask: Mask, palette: Sequence[Colour]) -> Mask:
    """A mask (H, W) in the colours of its classes, (H, W, 3); void is black."""
    colours = np.array(palette, np.uint8)
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    return table[mask]
