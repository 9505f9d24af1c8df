"""Metrics of a finished student, on its own test split or on other images."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stagewise_kd.data.loaders import Data
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.config import check_values, resolved
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.names import Config
from stagewise_kd.training.score import score
from stagewise_kd.training.setup import Fitting, Setup


def evaluate(
    run: Path,
    overrides: Sequence[str],
    open_student: Callable[[Path], tuple[BlockNet, Config]],
    load_data: Callable[[Config], tuple[Data, list[str]]],
    make_task: Callable[[Config, list[str]], Task],
) -> dict[str, float]:
    """Print and return the metrics of a run's student on the test split.

    Args:
        run: the run folder.
        overrides: changes to the run's config, such as "data.root=DIR".
        open_student: the student of a run and its description.
        load_data: splits and class names of a config.
        make_task: the task of a config and its classes.

    Raises:
        UserError: the run is not finished, or the data has other classes.
    """
    student, described = open_student(run)
    config = run_config(run, overrides)
    data, classes = load_data(config)
    if classes != described["classes"]:
        raise UserError(
            f"{run}: the student knows {', '.join(described['classes'][:12])}; the data has "
            f"{', '.join(classes[:12])}; give data of the student's classes"
        )
    fitting = Fitting(
        lambda parameters: None,  # type: ignore[arg-type, return-value]
        batch_size=config["batch_size"],
        workers=config["workers"],
        trainer=config["trainer"],
    )
    setup = Setup(student, None, make_task(config, classes), data, fitting)
    student.to(setup.device)
    figures = score(student, data.test, setup)
    print(json.dumps({"images": len(data.splits["test"]), **figures}, indent=2))
    return figures


def run_config(run: Path, overrides: Sequence[str] = ()) -> Config:
    """The resolved config of a run, with changes.

    Raises:
        UserError: a change names no setting, or is none.
    """
    config = OmegaConf.load(run / "config.yaml")
    OmegaConf.set_struct(config, True)
    for item in overrides:
        name, given, _ = item.partition("=")
        if not given or OmegaConf.is_config(OmegaConf.select(config, name)):
            raise UserError(f"{item}: give a single setting, such as data.root=DIR")
    try:
        config = OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides)))
    except OmegaConfBaseException as error:
        raise UserError(f"{' '.join(overrides)}: {str(error).splitlines()[0]}") from None
    if "root" in config.data.source:
        config.data.source.root = config.data.root
    if "unlabelled" in config.data:
        config.data.unlabelled = None  # of no use once the student is trained
    found = resolved(config)  # type: ignore[arg-type]
    check_values(found)
    return found
