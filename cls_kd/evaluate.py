"""Metrics of a finished student, on its own test split or on other images."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cls_kd.run import load_data
from cls_kd.task import Classification
from stagewise_kd.blocks import BlockNet
from stagewise_kd.cli import resolved
from stagewise_kd.engine import Bench, Fitting, score
from stagewise_kd.errors import UserError
from stagewise_kd.experiment import load_student
from stagewise_kd.files import load_weights
from stagewise_kd.resnet import resnet


def open_student(run: Path) -> tuple[BlockNet, dict[str, Any]]:
    """The student of a finished run, in eval mode, and its description."""
    weights, described = load_student(run)
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
    student, described = open_student(run)
    config = OmegaConf.load(run / "config.yaml")
    OmegaConf.set_struct(config, True)
    config = OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides)))
    if "root" in config.data.source:
        config.data.source.root = config.data.root
    settings = resolved(config)
    data, source = load_data(settings)
    if source.classes != described["classes"]:
        raise UserError(
            f"{run}: the student knows {', '.join(described['classes'][:10])}; the data has "
            f"{', '.join(source.classes[:10])}; give data of the student's classes"
        )
    fitting = Fitting(
        lambda parameters: None,
        batch_size=settings["batch_size"],
        workers=settings["workers"],
        trainer=settings["trainer"],
    )
    task = Classification(len(source.classes))
    bench = Bench(student, None, task, data, fitting)
    student.to(bench.device)
    figures = score(student, data.test, bench)
    print(json.dumps({"images": len(data.splits["test"]), **figures}, indent=2))
    return figures
