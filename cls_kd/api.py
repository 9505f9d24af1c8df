"""Distilling classifiers from Python."""

from functools import wraps
from typing import Any

import stagewise_kd
from cls_kd import front_end
from cls_kd.task import Classification


def classification(classes: int) -> Classification:
    """The task of so many classes.

    Raises:
        UserError: of one.
    """
    if classes < 2:
        raise stagewise_kd.UserError(
            f"the networks give {classes} logit; expected one for each of two classes or more"
        )
    return Classification(classes)


@wraps(stagewise_kd.distill)
def distill(*args: Any, **options: Any) -> stagewise_kd.Run:
    """`stagewise_kd.distill` of the task classification: labels are class indices."""
    return stagewise_kd.distill(*args, task=classification, **options)


@wraps(stagewise_kd.load)
def load(*args: Any, **options: Any) -> Any:
    """`stagewise_kd.load` of a run of the task classification."""
    return stagewise_kd.load(*args, **options, task=Classification.name)


@wraps(stagewise_kd.export)
def export(*args: Any, **options: Any) -> dict[str, Any]:
    """`stagewise_kd.export` of a run of classification."""
    return stagewise_kd.export(*args, front_end=front_end, **options)
