"""From the config of a classification run to its experiment."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from cls_kd.data import make_data
from cls_kd.sources import Source
from cls_kd.task import Classification
from cls_kd.teacher import load_teacher, pretrained
from stagewise_kd.data.image_files import Size
from stagewise_kd.data.loaders import Data
from stagewise_kd.methods.checks import check_plan
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.resnet import DEPTHS, resnet
from stagewise_kd.runs import run as shared
from stagewise_kd.runs.config import stage_epochs
from stagewise_kd.runs.experiment import Experiment
from stagewise_kd.system.errors import UserError
from stagewise_kd.training.setup import Setup


def run(cfg: DictConfig) -> None:
    """Run one experiment, or go on with it, or say that it is finished."""
    shared.run("cls_kd", experiment, cfg)


def load_source(config: dict[str, Any]) -> tuple[Source, Size]:
    """The data set of a config, and the size its images are used at."""
    data = config["data"]
    if data["size"] is None:
        raise UserError("data.size=null: give one side in pixels, or [height,width]")
    size = (data["size"],) * 2 if isinstance(data["size"], int) else tuple(data["size"])
    return instantiate(data["source"])(size=size), size


def load_data(config: dict[str, Any]) -> tuple[Data, Source]:
    """The splits of a config, and the data set they are of."""
    source, size = load_source(config)
    chosen = ("fraction", "seed", "val", "splits", "rest_as_test")
    options = {key: config["data"][key] for key in chosen}
    augment = instantiate(config["augment"])
    data = make_data(
        source,
        size,
        augment,
        view_seed=config["seed"],
        protocol=config["eval"]["protocol"],
        **options,
    )
    return data, source


def experiment(config: dict[str, Any], text: str, out: Path) -> Experiment:
    """The experiment of a resolved config; trains the teacher first where there is none.

    Args:
        config: the resolved config.
        text: the same as YAML.
        out: the run folder.

    Raises:
        UserError: anything in the config or the data is wrong.
    """
    torch.manual_seed(config["seed"])
    data, source = load_data(config)
    student = _student(config, len(source.classes))
    task = Classification(len(source.classes))
    epochs = stage_epochs(config, len(student.names))
    method = partial(instantiate(config["method"]), task, student, epochs=epochs)
    if shared.needs_teacher(config):
        untrained = _untrained(config, config["teacher"], len(source.classes))
        check_plan(method(untrained), student, untrained, data.shape)  # before hours of training
        with torch.random.fork_rng(devices=[]):
            config = shared.trained_teacher(experiment, config, teacher_config(config))
    has_teacher = config["teacher"] and config["teacher"]["checkpoint"]
    teacher = load_teacher(config, source.classes) if has_teacher else None
    network = {
        "name": config["student"]["name"],
        "classes": len(source.classes),
        "head": config["student"]["head"],
        "mean": student.mean.flatten().tolist(),
        "std": student.std.flatten().tolist(),
    }
    described = {
        "task": task.name,
        "network": network,
        "classes": source.classes,
        "size": list(data.shape[1:]),
    }
    facts = shared.facts(config, task.name)
    setup = Setup(student, teacher, task, data, shared.fitting(config, facts, out))
    return Experiment(setup, method(teacher), facts, text, described)


def teacher_config(config: dict[str, Any]) -> dict[str, Any]:
    """The config of the run that trains the teacher: the same for every student."""
    teacher = config["teacher"]
    student = {key: teacher[key] for key in ("name", "head", "pretrained")}
    data = config["data"] | {"fraction": 1.0, "rest_as_test": False}
    return shared.teacher_config(config, {"student": student, "data": data})


def _student(config: dict[str, Any], classes: int) -> BlockNet:
    student = config["student"]
    if student.get("pretrained"):  # a teacher in its own training run
        return pretrained(student["name"], classes)
    return _untrained(config, student, classes)


def _untrained(config: dict[str, Any], network: dict[str, Any], classes: int) -> BlockNet:
    """A network of the config with random weights.

    Raises:
        UserError: there is no network of that name.
    """
    if network["name"] not in DEPTHS:
        raise UserError(f"network {network['name']!r} is unknown; there are {', '.join(DEPTHS)}")
    data = config["data"]
    return resnet(network["name"], classes, network["head"], data["mean"], data["std"])
