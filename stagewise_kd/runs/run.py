"""One run of either front end: from a config to a finished run folder."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from stagewise_kd.cache.budget import Caching
from stagewise_kd.comparison.report import print_result
from stagewise_kd.runs.config import check_values, resolved, to_yaml, untracked
from stagewise_kd.runs.experiment import Experiment, run_experiment
from stagewise_kd.system.console import console
from stagewise_kd.system.names import Config, method_name, run_name
from stagewise_kd.system.processes import from_first, processes, rank
from stagewise_kd.system.run_folder import open_run
from stagewise_kd.tracking.trackers import no_tracker
from stagewise_kd.training.setup import Fitting
from stagewise_kd.training.trainer import check_trainer

Build = Callable[[Config, str, Path], Experiment]


def run(package: str, build: Build, cfg: DictConfig) -> None:
    """Run one experiment, or go on with it, or say that it is finished.

    Args:
        package: of the front end; `python -m package run …` starts further processes.
        build: makes the experiment from a resolved config, its text and the run folder.
        cfg: the composed config.
    """
    config = resolved(cfg)
    check_values(config)
    check_trainer(config["trainer"])
    out = Path(cfg.out or Path("runs") / run_name(config))
    command = ["-m", package, "run", *_overrides(), f"out={out}"]
    with processes(command, config["trainer"]):
        train(build, config, out)


def _overrides() -> list[str]:
    if not HydraConfig.initialized():
        return sys.argv[1:]
    return [item for item in HydraConfig.get().overrides.task if not item.startswith("out=")]


def train(build: Build, config: Config, out: Path, wait: bool = False) -> None:
    """Bring the run in `out` to its end.

    Args:
        build: makes the experiment.
        config: the resolved config.
        out: the run folder.
        wait: wait for a process that is at work on it, instead of refusing.

    Raises:
        UserError: anything in the config or the data is wrong; nothing is left behind then.
    """
    text = to_yaml(untracked(config))
    with open_run(out, wait) as folder:
        folder.check_config(text)
        result = from_first(folder.result)
        if result is None:
            result = run_experiment(build(config, text, out), folder)
        elif rank() == 0 and not wait:
            console.print(f"{out} is finished already")
    if rank() == 0 and not wait:
        print_result(result, out)


def needs_teacher(config: Config) -> bool:
    """Whether the run needs a teacher and has none; without one, no_teacher is scored alone."""
    teacher = config["teacher"]
    return bool(teacher) and not teacher["checkpoint"] and method_name(config) != "no_teacher"


def trained_teacher(build: Build, config: Config, wanted: Config) -> Config:
    """Train the teacher unless an earlier run has, and point the config at it.

    Args:
        build: makes the experiment.
        config: the whole resolved config.
        wanted: the config of the teacher's own run, from `teacher_config`.
    """
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{config['teacher']['name']}-{config['data']['name']}-{key}"
    folder = (Path(config["teacher"]["store"]) / name).absolute()
    train(build, wanted, folder, wait=True)
    return config | {"teacher": config["teacher"] | {"checkpoint": str(folder)}}


def teacher_config(config: Config, changes: Config) -> Config:
    """The config of the run that trains the teacher: the teacher as a student without teacher.

    Args:
        config: the config of the student's run.
        changes: what else is the teacher's own, such as {"student": …, "data": …}.
    """
    teacher = config["teacher"]
    return untracked(config) | {
        "teacher": None,
        "method": {"_target_": "stagewise_kd.methods.no_teacher.no_teacher", "_partial_": True},
        "schedule": "sequential",
        "budget": "paper",
        "graft": True,
        "cache": None,
        "epochs": teacher["epochs"],
        "seed": teacher["seed"],
        **changes,
    }


def fitting(config: Config, facts: dict[str, Any], out: Path) -> Fitting:
    """How the stages of a run are trained.

    Args:
        config: the resolved config.
        facts: the keys of result.json that name the experiment.
        out: the run folder.

    Raises:
        UserError: the tracker is not installed.
    """
    cache, clips = config["cache"], config["trainer"].get("gradient_clip_val")
    # Lightning cannot clip the gradients of a fused step in mixed precision.
    plain = {"fused": False} if clips and config["optimizer"].get("fused") else {}
    tracker = instantiate(config["tracker"]) if "tracker" in config else no_tracker
    return Fitting(
        optimizer=instantiate(config["optimizer"], **plain),
        scheduler=instantiate(config["scheduler"]),
        batch_size=config["batch_size"],
        seed=config["seed"],
        workers=config["workers"],
        graft=config["graft"],
        trainer=config["trainer"],
        tracker=tracker(out, untracked(config), facts),
        compile=config["compile"],
        cache=Caching(**cache) if cache and cache["budget_gb"] != 0 else None,
    )


def facts(config: Config, task: str) -> dict[str, Any]:
    """The keys of result.json that name the experiment."""
    teacher, decoder = config["teacher"], config.get("decoder")
    return {
        "task": task,
        "dataset": config["data"]["name"],
        "data_fraction": config["data"]["fraction"],
        "method": method_name(config),
        "student": config["student"]["name"],
        "teacher": teacher["name"] if teacher else None,
        "teacher_checkpoint": teacher["checkpoint"] if teacher else None,
        "decoder": decoder["name"] if decoder else None,
        "seed": config["seed"],
        "protocol": config["eval"]["protocol"],
    }
