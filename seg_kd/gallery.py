"""Test images side by side: truth, teacher, and every student of a comparison."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seg_kd import front_end
from seg_kd.masks import VOID
from seg_kd.metrics import overlaps
from seg_kd.task import Segmentation
from stagewise_kd.comparison.page import Exhibit
from stagewise_kd.comparison.runs import Run, read_runs, told_apart
from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.loaders import Data, eval_loader
from stagewise_kd.data.samples import Source
from stagewise_kd.methods.losses import two_or_more
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.evaluate import run_config
from stagewise_kd.runs.front_end import load_data
from stagewise_kd.runs.student import check_task, open_student

SEARCHED = 400  # test images among which the worst are looked for
BATCH = 8
Mask = NDArray[np.uint8]


def gallery(paths: Sequence[Path], count: int = 8) -> list[Exhibit]:
    """The test images that the students get worst, worst first.

    Only runs on the data of the first run are shown, one of each group of seeds.

    Args:
        paths: run folders, or folders of them.
        count: how many images.

    Raises:
        UserError: a run is not finished or of classification, or its data is no longer there.
    """
    every = told_apart(read_runs(paths))
    for group in every:
        check_task(group.runs[0].path, group["task"], Segmentation.name)
    groups = [group for group in every if "source" in group.runs[0].config["data"]]
    if not groups:  # run from Python, which alone has the data
        return []
    first = groups[0].runs[0]
    alike = [group for group in groups if _data_of(group.runs[0]) == _data_of(first)]
    students = {
        group.name: open_student(group.runs[0].path, Segmentation.name)[0] for group in alike
    }
    data, source = load_data(front_end, run_config(first.path))
    nets = _teacher([group.runs[0] for group in alike], source)
    number = min(SEARCHED, len(data.splits["test"]))
    masks = {name: _predict(net, data, number) for name, net in (nets | students).items()}
    truths = [np.asarray(data.test[index][1]) for index in range(number)]
    scores = [
        float(np.mean([image_miou(masks[name][i], truth) for name in students]))
        for i, truth in enumerate(truths)
    ]
    worst = sorted(range(number), key=lambda index: scores[index])[:count]
    return [
        _exhibit(
            f"{data.splits['test'][i]}, mIoU {scores[i]:.2f}",
            data.test[i],
            {name: found[i] for name, found in masks.items()},
            source,
        )
        for i in worst
    ]


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


def _data_of(run: Run) -> Any:
    data = run.config["data"]
    return [data[key] for key in ("name", "root", "size", "splits")]


def _teacher(runs: Sequence[Run], source: Source) -> dict[str, BlockNet]:
    for run in runs:
        checkpoint = run.result.get("teacher_checkpoint")
        if run.has_teacher and checkpoint and Path(checkpoint).exists():
            config = run_config(run.path)
            config["teacher"]["checkpoint"] = checkpoint
            return {f"{config['teacher']['name']} teacher": front_end.load_teacher(config, source)}
    return {}


@torch.inference_mode()
def _predict(net: BlockNet, data: Data, number: int) -> list[Mask]:
    found: list[Mask] = []
    for batch in eval_loader(data.test, BATCH, 0):
        logits = two_or_more(net.eval()(unit_images(batch.image)))
        found += list(logits.argmax(dim=1).to(torch.uint8).numpy())
        if len(found) >= number:
            break
    return found


def _exhibit(title: str, sample: Any, masks: dict[str, Mask], source: Source) -> Exhibit:
    image, truth = (np.asarray(part) for part in sample)
    shown = np.ascontiguousarray(np.broadcast_to(image[:3].transpose(1, 2, 0), (*truth.shape, 3)))
    every = {"truth": truth, **masks}
    return Exhibit(
        title,
        [("image", shown), *((name, coloured(mask, source)) for name, mask in every.items())],
        masks=every,
        class_labels={**dict(enumerate(source.classes)), VOID: "void"},
        image=shown,
    )


def coloured(mask: Mask, source: Source) -> Mask:
    """A mask (H, W) in the colours of its classes, (H, W, 3); void is black."""
    colours = np.array(source.palette, np.uint8)
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    return table[mask]
