"""Builds and runs tiny experiments; also the program that tests kill and start in pairs."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cls_kd.task import Classification
from stagewise_kd.cache.budget import Caching
from stagewise_kd.data.loaders import Data
from stagewise_kd.methods.stagewise import stagewise
from stagewise_kd.runs.experiment import Experiment, run_experiment
from stagewise_kd.system.processes import processes
from stagewise_kd.system.run_folder import open_run
from stagewise_kd.training.setup import Fitting, Setup
from tests.conftest import Pictures, tiny_net

SHAPE = (3, 8, 8)


def make_setup(teacher_width: int = 4, **fitting: Any) -> Setup:
    data = Data(Pictures(48, 0), Pictures(24, 1), Pictures(24, 2), SHAPE, "hash", {})
    options = {
        "optimizer": partial(torch.optim.Adam, lr=0.01),
        "scheduler": partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.01),
        "batch_size": 8,
        "trainer": {"accelerator": "cpu", "devices": 1},
    }
    fitted = Fitting(**options | fitting)  # type: ignore[arg-type]
    teacher = tiny_net(teacher_width, seed=1)
    return Setup(tiny_net(seed=2), teacher, Classification(3), data, fitted)


def experiment(setup: Setup, epochs: int = 3, **options: Any) -> Experiment:
    plan = stagewise(setup.task, setup.student, setup.teacher, epochs=epochs, **options)
    return Experiment(setup, plan, {"task": "classification"}, "tiny: true\n", {})


def run_tiny(out: Path, trainer: dict[str, Any] | None = None) -> dict[str, Any]:
    trainer = trainer or {"accelerator": "cpu", "devices": 1}
    with processes(["-m", "tests.engine", *sys.argv[1:]], trainer), open_run(out) as run:
        views = int(os.environ.get("TEST_CACHE_VIEWS", 0))
        setup = make_setup(6, trainer=trainer, cache=Caching(views) if views else None)
        return run_experiment(experiment(setup, finetune_epochs=2), run)


if __name__ == "__main__":
    torch.set_num_threads(1)
    devices = int(os.environ.get("TEST_DEVICES", 1))
    strategy = {"strategy": "ddp"} if devices > 1 else {}
    run_tiny(Path(sys.argv[1]), {"accelerator": "cpu", "devices": devices, **strategy})
