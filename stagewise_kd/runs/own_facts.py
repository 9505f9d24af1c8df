"""What a run from Python tells of itself."""

from dataclasses import asdict
from typing import Any

from stagewise_kd.data.loaders import Data
from stagewise_kd.data.own_splits import Given
from stagewise_kd.methods.method import Method, about, plain
from stagewise_kd.methods.outline import told
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.own_networks import name_of
from stagewise_kd.system.names import Config


def facts_of(
    task: Task,
    train: Given,
    method: Method,
    student: BlockNet,
    teacher: BlockNet | None,
    seed: int,
    tested: bool,
) -> dict[str, Any]:
    """The keys of result.json that name the experiment."""
    itself = about(method)
    return {
        "task": task.name,
        "dataset": type(getattr(train, "dataset", train)).__name__,
        "data_fraction": 1.0,
        "method": plain(method).__name__,
        **asdict(itself),
        "student": name_of(student),
        "teacher": name_of(teacher) if teacher else None,
        "teacher_checkpoint": None,
        "decoder": None,
        "seed": seed,
        "protocol": "holdout" if tested else "val",
    }


def config_of(
    facts: dict[str, Any], method: Method, options: dict[str, Any], settings: dict[str, Any]
) -> Config:
    """The settings of a run in the shape that a command line's config has."""
    teacher, function = facts["teacher"], plain(method)
    shown = {name: told(value) for name, value in options.items()}
    return {
        "data": {"name": facts["dataset"], "fraction": 1.0},
        "student": {"name": facts["student"]},
        "teacher": teacher and {"name": teacher, "checkpoint": None},
        "method": {"_target_": f"{function.__module__}.{function.__qualname__}", **shown},
        **settings,
    }


def described_by(data: Data, classes: list[str]) -> dict[str, Any]:
    """What predicting on image files takes."""
    image, _ = data.val[0]
    kind = "prepared" if image.is_floating_point() else "uint8"
    return {"classes": classes, "size": list(data.shape[1:]), "images": kind}
