"""Distilling classifiers from Python."""

from functools import wraps
from typing import Any

import stagewise_kd
from cls_kd.task import Classification


@wraps(stagewise_kd.distill)
def distill(*args: Any, **options: Any) -> stagewise_kd.Run:
    """`stagewise_kd.distill` of the task classification: labels are class indices."""
    return stagewise_kd.distill(*args, task=Classification, **options)
