"""From a config to a finished run; the only module that sees the config of a run."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from cls_kd.data import make_data
from cls_kd.images import Size
from cls_kd.sources import Source
from cls_kd.task import Classification
from cls_kd.teacher import load_teacher, pretrained, trained_teacher
from stagewise_kd.blocks import BlockNet
from stagewise_kd.cli import check_values, resolved, run_path, to_yaml
from stagewise_kd.distributed import processes, rank
from stagewise_kd.engine import Bench, Fitting
from stagewise_kd.errors import UserError
from stagewise_kd.experiment import Experiment, run_experiment
from stagewise_kd.loaders import Data
from stagewise_kd.plan import check_plan
from stagewise_kd.progress import console
from stagewise_kd.report import print_result
from stagewise_kd.resnet import DEPTHS, resnet
from stagewise_kd.run_folder import open_run


def run(cfg: DictConfig) -> None:
    """Run one experiment, or go on with it, or say that it is finished."""
    config = resolved(cfg)
    check_values(config)
    out = run_path(cfg, run_name(config))
    command = ["-m", "cls_kd", "run", *_overrides(), f"out={out}"]
    with processes(command, config["trainer"]):
        train(config, out)


def run_name(config: dict[str, Any]) -> str:
    """Readable name of a run: data and fraction / student, method and seed."""
    data = config["data"]
    job = f"{config['student']['name']}-{_method(config)}-s{config['seed']}"
    return f"{data['name']}-{data['fraction']:.2f}/{job}"


def _method(config: dict[str, Any]) -> str:
    return str(config["method"]["_target_"]).rsplit(".", 1)[-1]


def _overrides() -> list[str]:
    if not HydraConfig.initialized():
        return sys.argv[1:]
    return [item for item in HydraConfig.get().overrides.task if not item.startswith("out=")]


def train(config: dict[str, Any], out: Path, wait: bool = False) -> None:
    """Bring the run in `out` to its end.

    Args:
        config: the resolved config.
        out: the run folder.
        wait: wait for a process that is at work on it, instead of refusing.

    Raises:
        UserError: anything in the config or the data is wrong; nothing is left behind then.
    """
    text = to_yaml(config)
    with open_run(out, wait) as folder:
        folder.check_config(text)
        result = folder.result
        if result is None:
            result = run_experiment(_experiment(config, text), folder)
        elif rank() == 0 and not wait:
            console.print(f"{out} is finished already")
    if rank() == 0 and not wait:
        print_result(result, out)


def load_source(config: dict[str, Any]) -> tuple[Source, Size]:
    """The data set of a config, and the size its images are used at."""
    data = config["data"]
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


def _experiment(config: dict[str, Any], text: str) -> Experiment:
    torch.manual_seed(config["seed"])
    data, source = load_data(config)
    student = _student(config, len(source.classes))
    task = Classification(len(source.classes))
    method = partial(instantiate(config["method"]), task, student, epochs=config["epochs"])
    if _trains_teacher(config):
        untrained = _untrained(config, config["teacher"], len(source.classes))
        check_plan(method(untrained), student, untrained, data.shape)  # before hours of training
        with torch.random.fork_rng(devices=[]):
            config = trained_teacher(config, lambda wanted, out: train(wanted, out, wait=True))
    has_teacher = config["teacher"] and config["teacher"]["checkpoint"]
    teacher = load_teacher(config, source.classes) if has_teacher else None
    network = {
        "name": config["student"]["name"],
        "classes": len(source.classes),
        "head": config["student"]["head"],
        "mean": student.mean.flatten().tolist(),
        "std": student.std.flatten().tolist(),
    }
    described = {"network": network, "classes": source.classes, "size": list(data.shape[1:])}
    bench = Bench(student, teacher, task, data, _fitting(config))
    return Experiment(bench, method(teacher), _facts(config), text, described)


def _trains_teacher(config: dict[str, Any]) -> bool:
    """Whether the run needs a teacher and has none; without one, no_teacher is scored alone."""
    teacher = config["teacher"]
    return bool(teacher) and not teacher["checkpoint"] and _method(config) != "no_teacher"


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


def _fitting(config: dict[str, Any]) -> Fitting:
    return Fitting(
        optimizer=instantiate(config["optimizer"]),
        scheduler=instantiate(config["scheduler"]),
        batch_size=config["batch_size"],
        seed=config["seed"],
        workers=config["workers"],
        graft=config["graft"],
        trainer=config["trainer"],
    )


def _facts(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": "classification",
        "dataset": config["data"]["name"],
        "data_fraction": config["data"]["fraction"],
        "method": _method(config),
        "student": config["student"]["name"],
        "teacher": config["teacher"]["name"] if config["teacher"] else None,
        "decoder": None,
        "seed": config["seed"],
        "protocol": config["eval"]["protocol"],
    }
