"""The student of a finished run, and its metrics."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cls_kd.run import load_data
from cls_kd.task import Classification
from stagewise_kd.data.loaders import Data
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.runs import evaluate as shared
from stagewise_kd.runs.student import load_student
from stagewise_kd.system.files import load_weights


def open_student(run: Path) -> tuple[BlockNet, dict[str, Any]]:
    """The student of a finished run, in eval mode, and its description."""
    weights, described = load_student(run, "classification")
    student = resnet(**described["network"])
    load_weights(student.model, weights, str(run))
    return student.eval(), described


def evaluate(run: Path, overrides: Sequence[str]) -> dict[str, float]:
    """Print and return the metrics of a run's student on the test split.

    Args:
        run: the run folder.
        overrides: changes to the run's config, such as "data.root=DIR".

    Raises:
        UserError: the run is not finished, or the data has other classes.
    """
    return shared.evaluate(run, overrides, open_student, _data, _task)


def _data(config: dict[str, Any]) -> tuple[Data, list[str]]:
    data, source = load_data(config)
    return data, source.classes


def _task(config: dict[str, Any], classes: list[str]) -> Classification:
    return Classification(len(classes))
