"""Metrics of a finished student, on its own test split or on other images."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stagewise_kd.data.present import absent_classes, classes_fit
from stagewise_kd.data.samples import Source
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.config import check_values, resolved
from stagewise_kd.runs.front_end import FrontEnd, load_data
from stagewise_kd.runs.overrides import PATHS
from stagewise_kd.runs.own_function import factory_of
from stagewise_kd.runs.student import open_student
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import path_of
from stagewise_kd.system.names import Config
from stagewise_kd.training.score import TEACHER, scores
from stagewise_kd.training.setup import Fitting, Setup


def evaluate(
    front_end: FrontEnd, run: Path, overrides: Sequence[str], factory: str | None = None
) -> dict[str, float]:
    """Print and return the metrics of a run's student on the test split.

    Args:
        front_end: of the task.
        run: the run folder.
        overrides: changes to the run's config, such as "data.root=DIR".
        factory: `module:function` that builds a network of the user's own.

    Raises:
        UserError: the run is not finished, or the data has other classes.
    """
    student, described = open_student(run, front_end.TASK, factory_of(run, factory))
    setup, source, config = scoring(front_end, run, student, described, overrides)
    tested = {split: found for split, found in setup.data.counts.items() if split == "test"}
    for line in absent_classes(tested, source.classes):
        console.print(line, soft_wrap=True, highlight=False)
    student.to(setup.device)
    nets, test = {"student": student}, setup.data.test
    if not setup.data.has_labels(test):
        nets[TEACHER] = front_end.load_teacher(config, source).to(setup.device).eval()
    figures = scores(nets, test, setup)["student"]
    print(json.dumps({"images": len(test), **figures}, indent=2))  # type: ignore[arg-type]
    return figures


def scoring(
    front_end: FrontEnd,
    run: Path,
    student: BlockNet,
    described: dict[str, Any],
    overrides: Sequence[str],
    trains: bool = False,
) -> tuple[Setup, Source, Config]:
    """The data of a run again, and what its student is scored with.

    Args:
        front_end: of the task.
        run: the run folder.
        student: from `open_student`.
        described: likewise.
        overrides: changes to the run's config.
        trains: whether the train images are wanted too.

    Raises:
        UserError: the data cannot be read, or has other classes.
    """
    own, config = run_config(run), run_config(run, overrides)
    config["data"]["size"] = config["data"]["size"] or described["size"]
    elsewhere = any(own["data"].get(key) != config["data"].get(key) for key in ("root", "test"))
    data, source = load_data(front_end, config, described["classes"], elsewhere, trains)
    if not classes_fit(described["classes"], source.classes):
        raise UserError(
            f"{run}: the student knows {', '.join(described['classes'][:12])}; the data has "
            f"{', '.join(source.classes[:12])}; give data of the student's classes"
        )
    fitting = Fitting(
        lambda parameters: None,  # type: ignore[arg-type, return-value]
        batch_size=config["batch_size"],
        workers=config["workers"],
        trainer=config["trainer"],
    )
    task = front_end.make_task(config, source)
    return Setup(student, None, task, data, fitting), source, config


def run_config(run: Path, overrides: Sequence[str] = ()) -> Config:
    """The resolved config of a run, with changes.

    Raises:
        UserError: a change names no setting, or is none; or the run names no data set.
    """
    config = OmegaConf.load(run / "config.yaml")
    if OmegaConf.select(config, "data.source") is None:
        raise UserError(f"{run}: was run from Python, which alone has its data; score it there")
    OmegaConf.set_struct(config, True)
    for item in overrides:
        name, given, text = item.partition("=")
        if not given or OmegaConf.is_config(OmegaConf.select(config, name)):
            raise UserError(f"{item}: give a single setting, such as data.root=DIR")
        try:
            if name in PATHS and text != "null":
                OmegaConf.update(config, name, str(path_of(text).absolute()))
            else:
                config = OmegaConf.merge(config, OmegaConf.from_dotlist([item]))
        except OmegaConfBaseException as error:
            raise UserError(f"{item}: {str(error).splitlines()[0]}") from None
    for name in (item.partition("=")[0].removeprefix("data.") for item in overrides):
        if name in config.data.source and name in config.data:  # what the source has of data
            config.data.source[name] = config.data[name]
    config.data.unlabelled = None  # of no use once the student is trained
    found = resolved(config)  # type: ignore[arg-type]
    check_values(found)
    return found
