"""A contact sheet: test images, and what teacher and students take them for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from cls_kd import front_end
from stagewise_kd.comparison.page import Exhibit, Picture
from stagewise_kd.runs.gallery import Shown, seen, shown_runs


def gallery(paths: Sequence[Path], count: int = 32) -> list[Exhibit]:
    """One row of test images, those first on which students and teacher differ most.

    Only runs on the data of the first run are shown, one of each group of seeds.

    Args:
        paths: run folders, or folders of them.
        count: how many images.

    Raises:
        UserError: a run is not finished or of segmentation.
    """
    shown = shown_runs(front_end, paths)
    if shown is None:
        return []
    nets = shown.teacher | shown.students
    found = {name: seen(net, shown, _probabilities) for name, net in nets.items()}
    picks = [
        {int(of[number].argmax()) for of in found.values()} for number in range(len(shown.names))
    ]
    first = sorted(range(len(picks)), key=lambda number: -len(picks[number]))[:count]
    whom = "Teacher and student" if shown.teacher and len(nets) == 2 else "The networks"
    differ = sum(len(classes) > 1 for classes in picks)
    title = f"{whom} differ on {differ} of {len(picks)} images, which come first"
    return [Exhibit(title, [_picture(shown, found, number) for number in first])]


def _probabilities(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


def _picture(shown: Shown, found: dict[str, Tensor], number: int) -> tuple[str, Picture]:
    """An image of the sheet, and the lines below it."""
    classes = shown.described["classes"]
    image, label = shown.data.test[number]  # type: ignore[index]
    lines = [Path(shown.names[number]).name, *([f"is {classes[label]}"] if shown.labelled else [])]
    for name, of in found.items():
        best = int(of[number].argmax())
        lines.append(f"{name}: {classes[best]} {of[number][best]:.0%}")
    return "\n".join(lines), np.ascontiguousarray(image.permute(1, 2, 0).numpy())
