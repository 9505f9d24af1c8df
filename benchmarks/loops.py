"""The variants: the published loop, the engine with and without cache, and the limit."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from benchmarks.meter import Meter, Spent, synchronize
from benchmarks.problem import Networks, Problem
from stagewise_kd.cache.budget import Caching
from stagewise_kd.data.batches import unit_images
from stagewise_kd.methods.checks import check_plan
from stagewise_kd.methods.plan import Stage
from stagewise_kd.networks.blocks import IMAGE, LOGITS, BlockNet
from stagewise_kd.networks.cpu_convolutions import fast_convolutions
from stagewise_kd.system.console import console
from stagewise_kd.system.precision import autocast
from stagewise_kd.system.run_folder import RunFolder
from stagewise_kd.training.setup import Fitting
from stagewise_kd.training.stages import run_plan

BatchLoss = Callable[[Tensor, Tensor], Tensor]  # of images and labels

MEASURED_EPOCHS = 2  # of every stage without cache: one with its set-up, one without
MIN_STEPS = 30


def published(problem: Problem, precision: str) -> dict[str, Spent]:
    """The loop of the paper: whole student and whole teacher at every step, one MSE, Adam.

    Kulkarni et al., "Data Efficient Stagewise Knowledge Distillation", arXiv 1911.06786.
    """
    meter = Meter(problem.setup.device)
    student, teacher = problem.networks()
    meter.start()
    for stage in problem.plan:
        optimizer = torch.optim.Adam(train_only(student, stage.trains), lr=1e-4)
        loss = partial(whole_loss, stage, student, teacher)
        train_epoch(problem, precision, loss, optimizer)
        student.eval()
        validate(problem, precision, loss)
        meter.lap(stage.name)
    return meter.spent(problem.epochs)


def train_only(student: BlockNet, names: Sequence[str]) -> list[nn.Parameter]:
    """Set train mode and gradients on these blocks and on no other; their parameters."""
    student.eval().requires_grad_(False)
    for block in student.modules_of(names):
        block.train().requires_grad_(True)
    return [p for p in student.parameters() if p.requires_grad]


def train_epoch(
    problem: Problem,
    precision: str,
    loss: BatchLoss,
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | None = None,
) -> None:
    """A step on each batch of the train images."""
    device = problem.setup.device
    for images, labels in plain_loader(problem):
        with autocast(precision, device):
            found = loss(images.to(device), labels.to(device))
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def whole_loss(
    stage: Stage, student: BlockNet, teacher: BlockNet, images: Tensor, labels: Tensor
) -> Tensor:
    """The loss of a stage, with all of both networks run; without the teacher on labels."""
    (term,) = stage.terms
    ours = student.features({IMAGE: images}, {term.student, LOGITS})[term.student]
    if term.teacher is None:
        return term.loss(ours, labels)
    with torch.no_grad():
        target = teacher.features({IMAGE: images}, {term.teacher, LOGITS})[term.teacher]
    return term.loss(ours, target)


def plain_loader(problem: Problem) -> DataLoader[Any]:
    """Shuffled batches of images that are transformed one by one."""
    fitting = problem.setup.fitting
    cuda = fitting.device.type == "cuda"
    workers = fitting.workers
    return DataLoader(
        problem.plain, problem.batch, True, num_workers=workers, pin_memory=cuda, drop_last=True
    )


@torch.no_grad()
def validate(problem: Problem, precision: str, loss: BatchLoss) -> float:
    """Mean of a loss on the val split, of a student in eval mode."""
    setup, device = problem.setup, problem.setup.device
    losses = []
    workers = setup.fitting.workers
    for images, labels in DataLoader(setup.data.val, 4 * problem.batch, num_workers=workers):
        with autocast(precision, device):
            losses.append(loss(unit_images(images.to(device)), labels.to(device)))
    return torch.stack(losses).mean().item()


def engine(problem: Problem, networks: Networks | None = None, *, cached: bool) -> dict[str, Spent]:
    """The engine; without cache it runs two epochs of every stage, which stand for all.

    Args:
        problem: what is trained.
        networks: to train and to learn from; None: fresh ones.
        cached: whether stages start from a feature cache.
    """
    plan = problem.plan
    if not cached:
        plan = tuple(replace(s, epochs=min(s.epochs, MEASURED_EPOCHS)) for s in plan)
    console.quiet = True
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        run.start("", {}, problem.setup.data.splits)
        meter = Meter(problem.setup.device)
        student, teacher = networks or problem.networks()
        fitted = fitting(problem, meter, cached)
        setup = replace(problem.setup, student=student, teacher=teacher, fitting=fitted)
        adapters = check_plan(plan, student, teacher, setup.data.shape)
        meter.start()
        records = run_plan(plan, adapters, setup, run)
        meter.end(plan[-1].name)
    spent = meter.spent(None if cached else problem.epochs)
    caches = {record["name"]: record["cache"]["bytes"] for record in records}
    return {name: replace(one, cache=caches[name]) for name, one in spent.items()}


def fitting(problem: Problem, meter: Meter, cached: bool) -> Fitting:
    """The default recipe with or without a feature cache."""
    cache = Caching(views=problem.views) if cached else None
    return replace(problem.setup.fitting, tracker=meter, cache=cache)


def limit(problem: Problem) -> dict[str, Spent]:
    """Bare steps of each stage's own blocks on one batch in memory, and bare inference passes.

    The passes are those that fill a cache: each block of the teacher that is matched, and each of
    the student that a later stage reads, once a view.
    """
    device = problem.setup.device
    meter = Meter(device)
    student, teacher = problem.networks()
    images, labels = next(iter(plain_loader(problem)))
    labels = labels.to(device)
    ours = theirs = {IMAGE: images.to(device, memory_format=torch.channels_last)}
    spent = {}
    with fast_convolutions(student, teacher):
        for stage in problem.plan:
            fill = partial(next_features, problem, stage, (student, ours), (teacher, theirs))
            inputs, theirs = fill()
            ours = ours | inputs  # a decoder reads those of earlier stages too
            (target,) = theirs.values() or (labels,)
            step = isolated_step(problem, stage, student, ours, target)
            per_epoch = [problem.steps * seconds_of(run, problem) for run in (fill, step)]
            seconds = problem.views * per_epoch[0] + problem.epochs * per_epoch[1]
            spent[stage.name] = Spent(seconds, meter.growth())
    return spent


@torch.no_grad()
def next_features(
    problem: Problem,
    stage: Stage,
    ours: tuple[BlockNet, dict[str, Tensor]],
    theirs: tuple[BlockNet, dict[str, Tensor]],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs and targets of a stage, from networks and the inputs and targets before it."""
    (student, given), (teacher, matched) = ours, theirs
    (term,) = stage.terms
    reads = {read for name in stage.trains for read in student.blocks[name].reads}
    targets = {term.teacher} if term.teacher else set()
    with autocast(problem.setup.fitting.precision, problem.setup.device):
        inputs = student.features(given, reads - set(stage.trains))
        return inputs, teacher.features(matched, targets)


def isolated_step(
    problem: Problem, stage: Stage, student: BlockNet, inputs: dict[str, Tensor], target: Tensor
) -> Callable[[], None]:
    """One step of the blocks that a stage trains, from their inputs and target in memory."""
    (term,) = stage.terms
    optimizer = torch.optim.Adam(train_only(student, stage.trains), lr=1e-4, fused=True)

    def step() -> None:
        with autocast(problem.setup.fitting.precision, problem.setup.device):
            loss = term.loss(student.features(inputs, {term.student})[term.student], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds_of(run: Callable[[], Any], problem: Problem) -> float:
    """Mean seconds of a call, of as many as an epoch has steps, at least 30; three to warm up."""
    count = max(MIN_STEPS, problem.steps)
    for _ in range(3):
        run()
    synchronize(problem.setup.device)
    start = time.perf_counter()
    for _ in range(count):
        run()
    synchronize(problem.setup.device)
    return (time.perf_counter() - start) / count
