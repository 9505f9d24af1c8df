"""The networks, the data, and how they are trained and scored."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stagewise_kd.blocks import IMAGE, LOGITS, BlockNet
from stagewise_kd.cache_plan import Caching
from stagewise_kd.distributed import local_device
from stagewise_kd.loaders import Data, eval_loader
from stagewise_kd.plan import Stage
from stagewise_kd.task import Task
from stagewise_kd.trackers import Tracker
from stagewise_kd.training import (
    Optimizer,
    Scheduler,
    autocast,
    fastest_precision,
    unit_images,
)


@dataclass(frozen=True)
class Fitting:
    """How every stage is trained."""

    optimizer: Optimizer
    scheduler: Scheduler | None = None
    batch_size: int = 64
    seed: int = 0
    workers: int = 0
    graft: bool = True
    trainer: dict[str, Any] = field(default_factory=dict)
    tracker: Tracker | None = None
    cache: Caching | None = None
    compile: bool = False

    @property
    def precision(self) -> str:
        """Lightning's name of the precision; "auto" is what the device is fastest at."""
        asked = str(self.trainer.get("precision", "32-true"))
        return fastest_precision(self.device) if asked == "auto" else asked

    @property
    def device(self) -> torch.device:
        """Where the networks run outside of Lightning, which moves the student back to the CPU."""
        return local_device(self.trainer)


@dataclass(frozen=True)
class Bench:
    """The two networks and what they are trained and scored with."""

    student: BlockNet
    teacher: BlockNet | None
    task: Task
    data: Data
    fitting: Fitting

    @property
    def device(self) -> torch.device:
        """Where the networks run outside of Lightning."""
        return self.fitting.device


def score(predict: Callable[[Tensor], Tensor], data: Any, bench: Bench) -> dict[str, float]:
    """The task's metrics of `predict`: images in [0, 1] to logits, over a whole split."""
    device = bench.device
    metrics = bench.task.metrics().to(device)
    loader = eval_loader(data, 4 * bench.fitting.batch_size, bench.fitting.workers)
    with torch.inference_mode(), autocast(bench.fitting.precision, device):
        for batch in loader:
            logits = predict(unit_images(batch.image.to(device, non_blocking=True)))
            metrics.update(logits.float(), batch.labels.to(device))
    return {name: round(value.item(), 6) for name, value in metrics.compute().items()}


def graft_score(grafted: dict[str, tuple[str, nn.Module]], bench: Bench) -> dict[str, float]:
    """Metrics on the validation split of the student's blocks so far inside the teacher.

    Args:
        grafted: for each of the teacher's features the student's that stands for it, and the
            adapter between them.
        bench: networks, task, data.
    """
    assert bench.teacher is not None
    student, teacher = bench.student.to(bench.device).eval(), bench.teacher.to(bench.device)
    rest = teacher.needed(grafted, {LOGITS})
    read = {name for block in rest for name in teacher.blocks[block].reads}
    used = {name: piece for name, piece in grafted.items() if name in read}

    def predict(images: Tensor) -> Tensor:
        features = student.features({IMAGE: images}, {name for name, _ in used.values()})
        given = {name: adapter(features[ours]) for name, (ours, adapter) in used.items()}
        return teacher.features({IMAGE: images} | given, {LOGITS})[LOGITS]

    return score(predict, bench.data.val, bench)


def pieces(stage: Stage, adapters: nn.ModuleDict) -> dict[str, tuple[str, nn.Module]]:
    """What a finished feature stage adds to a graft: see `graft_score`."""
    return {
        str(term.teacher): (
            term.student,
            adapters[term.name].eval() if term.name in adapters else nn.Identity(),
        )
        for term in stage.terms
    }
