"""Distillation from Python: networks and data sets in, a trained student out."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stagewise_kd.cache.budget import Caching
from stagewise_kd.data.own_splits import (
    Given,
    check_labels,
    class_names,
    dataset_hash,
    loading,
    own_data,
)
from stagewise_kd.methods.method import Method, chosen_method
from stagewise_kd.methods.outline import as_plan, told
from stagewise_kd.methods.plan import in_steps
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.matching import Match
from stagewise_kd.runs.config import to_yaml
from stagewise_kd.runs.experiment import Experiment, run_experiment
from stagewise_kd.runs.own_facts import config_of, described_by, facts_of
from stagewise_kd.runs.own_networks import At, Norm, classes_of, own_networks
from stagewise_kd.system.checkpoints import read_weights
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import path_of
from stagewise_kd.system.processes import device_count, processes, rank
from stagewise_kd.system.run_folder import open_run
from stagewise_kd.system.weights import load_weights
from stagewise_kd.training.setup import Fitting, Setup
from stagewise_kd.training.trainer import check_trainer

PLACES = ("accelerator", "devices", "strategy")  # a run is the same on any
TRAINER = {"accelerator": "auto", "devices": 1, "strategy": "auto", "precision": "auto"}


@dataclass(frozen=True)
class Run:
    """A finished distillation.

    Args:
        student: the trained network, of the class that was given, in eval mode.
        result: the content of result.json.
        path: the run folder; None where none was asked for.
    """

    student: nn.Module
    result: dict[str, Any]
    path: Path | None


def distill(
    student: nn.Module,
    teacher: nn.Module | None,
    train: Given,
    *,
    task: Callable[[int], Task],
    val: Given | None = None,
    test: Given | None = None,
    unlabelled: Given | None = None,
    at: At = None,
    match: Sequence[Match] | None = None,
    method: str | Method = "stagewise",
    epochs: int = 10,
    steps: int | None = None,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    workers: int = 0,
    out: str | Path | None = None,
    trainer: dict[str, Any] | None = None,
    **options: Any,
) -> Run:
    """Train a student to reproduce a teacher, by default block by block.

    The same call on the folder of an unfinished run goes on with it, and ends with the weights of
    an uninterrupted one; on that of a finished run it gives what is there. The networks that are
    given stay as they are: a copy of the student is trained.

    Args:
        student: the network to train, all of it, as it starts; a `BlockNet` is taken as it is cut.
        teacher: the trained network, likewise; None for a method that needs none.
        train: a map-style data set, or a `DataLoader` over one: images (C, H, W), or pairs of
            image and label. uint8 images are scaled to [0, 1] and normalized, float images are
            taken as networks take them. A loader's batch size, workers and collate function are
            its own; the order is drawn by the seed.
        task: makes the task from the number of classes.
        val: what epochs are chosen on; None: a tenth of train is held out.
        test: what is reported, once at the end; None: val, by which epochs were chosen too.
        unlabelled: further images, of which stages with something of the teacher's to learn do so;
            labels that they have are not looked at.
        at: names of the modules at whose ends the networks are cut: of both, or a pair of lists,
            the student's and the teacher's; None: as `cut` knows them.
        match: pairs of features, the student's and the teacher's; None: by name, or in order.
        method: a name, or a function (task, student, teacher, *, epochs, **options) -> Plan.
        epochs: of each stage.
        steps: of each stage, instead of `epochs`; `finetune_epochs` are steps then, too.
        batch_size: images a step.
        lr: the highest learning rate of Adam on a one-cycle schedule.
        seed: of everything random but the networks that are given.
        mean: per-channel mean of uint8 images in [0, 1]; None: ImageNet's of three channels.
        std: per-channel standard deviation, likewise.
        workers: processes that load samples.
        out: the run folder; None keeps nothing but what is returned.
        trainer: options of `lightning.Trainer`, such as accelerator, devices, precision.
        options: of the method: `head="teacher"`, `schedule="concurrent"`, ….

    Raises:
        UserError: says what is wrong with networks, data, options or the folder.
    """
    if not isinstance(trainer, dict | None):
        raise UserError(
            f"trainer: a {type(trainer).__name__}; give options of lightning.Trainer as a dict, "
            'such as {"devices": 2}'
        )
    chosen = TRAINER | (trainer or {})
    check_trainer(chosen)
    _check_numbers(1, epochs=epochs, steps=steps, batch_size=batch_size)
    _check_numbers(0, seed=seed, workers=workers)
    data = own_data(train, val, test, seed, unlabelled)
    load = loading(train, batch_size, workers)
    more = options | ({} if match is None else {"match": [list(pair) for pair in match]})
    known = (teacher is not None, data.labelled, unlabelled is not None)
    plan_of, given = chosen_method(method, more, *known)
    norm = Norm(*(value if value is None else [*map(float, value)] for value in (mean, std)))
    ours, theirs = own_networks(student, teacher, data, at, norm, plan_of, given.get("head"))
    made = task(count := classes_of(ours, theirs, data.shape))
    check_labels(data, made.as_labels, made.void)
    plan = as_plan(plan_of(made, ours, theirs, epochs=steps or epochs, **given))
    plan = in_steps(plan) if steps else plan
    fitting = _fitting(lr, load.batch_size, load.workers, seed, chosen)
    facts = facts_of(made, train, plan_of, ours, theirs, seed, test is not None)
    facts["val_may_be_seen"] = val is None and facts["needs_teacher"]
    settings = {
        **({"steps": steps} if steps else {"epochs": epochs}),
        **{"lr": lr, "batch_size": load.batch_size, "seed": seed, "at": told(at)},
        **{key: told(values) for key, values in norm._asdict().items()},
        "trainer": {key: told(value) for key, value in chosen.items() if key not in PLACES},
    }
    text = to_yaml(config_of(facts, plan_of, given, settings))
    described = described_by(data, class_names(train, count))
    setup = Setup(ours, theirs, made, data, fitting)
    content = dataset_hash(train, val, test, unlabelled)
    experiment = Experiment(setup, plan, facts, text, described, content)
    with _folder(out, chosen) as path:
        result = _finished(experiment, path, chosen)
    net = ours.model.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return Run(net.eval().requires_grad_(), result, None if out is None else path)


def _finished(experiment: Experiment, path: Path, trainer: dict[str, Any]) -> dict[str, Any]:
    """The result of the run in a folder; the experiment's student is the trained one then."""
    with processes(sys.argv, trainer), open_run(path) as folder:
        there = folder.result is not None
        result = run_experiment(experiment, folder)
        if there:
            weights = read_weights(path / "student" / "model.safetensors")
            load_weights(experiment.setup.student.model, weights, str(path))
            if rank() == 0:
                console.print(f"{path} is finished already", soft_wrap=True)
    return result


@contextmanager
def _folder(out: str | Path | None, trainer: dict[str, Any]) -> Iterator[Path]:
    """The run folder, or one that is gone afterwards."""
    if device_count(trainer) > 1 and (out is None or not Path(sys.argv[0]).is_file()):
        raise UserError(
            f"trainer: devices={trainer['devices']} starts the script again for each device; "
            "run distill from a script, with out=DIR"
        )
    if out is not None:
        yield path_of(out)
        return
    with tempfile.TemporaryDirectory(prefix="stagewise-kd-") as folder:
        yield Path(folder) / "run"


def _check_numbers(least: int, **numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, int) or number < least):
            raise UserError(f"{name}={number}: give a whole number from {least} up")


def _fitting(
    lr: float, batch_size: int, workers: int, seed: int, trainer: dict[str, Any]
) -> Fitting:
    if not isinstance(lr, int | float) or not lr > 0:
        raise UserError(f"lr={lr}: give a number above 0")
    fused = not trainer.get("gradient_clip_val")  # Lightning cannot clip those of a fused step
    return Fitting(
        partial(torch.optim.Adam, lr=lr, fused=fused),
        partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=lr),
        batch_size,
        seed,
        workers,
        trainer=trainer,
        cache=Caching(),
    )
