"""Distilling segmentation networks from Python."""

from functools import wraps
from typing import Any

import stagewise_kd
from seg_kd import front_end
from seg_kd.task import Segmentation


def segmentation(classes: int) -> Segmentation:
    """The task of so many classes, called by their numbers; a single one stands for two."""
    return Segmentation([str(number) for number in range(max(classes, 2))])


@wraps(stagewise_kd.distill)
def distill(*args: Any, **options: Any) -> stagewise_kd.Run:
    """`stagewise_kd.distill` of the task segmentation: labels are masks (H, W), 255 is void."""
    return stagewise_kd.distill(*args, task=segmentation, **options)


@wraps(stagewise_kd.load)
def load(*args: Any, **options: Any) -> Any:
    """`stagewise_kd.load` of a run of the task segmentation."""
    return stagewise_kd.load(*args, **options, task=Segmentation.name)


@wraps(stagewise_kd.export)
def export(*args: Any, **options: Any) -> dict[str, Any]:
    """`stagewise_kd.export` of a run of segmentation."""
    return stagewise_kd.export(*args, front_end=front_end, **options)
