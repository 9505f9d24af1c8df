"""The networks, the data, and how they are trained and scored."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stagewise_kd.cache.budget import Caching
from stagewise_kd.data.loaders import Data
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.system.precision import fastest_precision
from stagewise_kd.system.processes import local_device
from stagewise_kd.training.optimizing import Optimizer, Scheduler
from stagewise_kd.training.tracker import Tracker

SMALL = 256**2  # pixels of an image


@dataclass(frozen=True)
class Fitting:
    """How every stage is trained.

    `reuse` is the folder where runs tell one another of their stages, so that none is trained
    twice; None: they do not.
    """

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
    reuse: Path | None = None

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
class Setup:
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

    @property
    def at_once(self) -> int:
        """Images in a batch that nothing learns from: of small ones more, for nothing is held.

        Of large ones the logits of masks alone fill a GPU: 32 of 512 by 512 pixels and 150 classes
        are 5 GB.
        """
        small = math.prod(self.data.shape[1:]) <= SMALL
        return self.fitting.batch_size * (4 if small else 1)
