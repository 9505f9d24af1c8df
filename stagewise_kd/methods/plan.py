"""What a run trains, stage by stage, and the check that it can be done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from stagewise_kd.networks.blocks import LOGITS

Loss = Callable[[Tensor, Tensor], Tensor]
Adapter = Literal["conv1x1", "none"]


@dataclass(frozen=True)
class Monitor:
    """The validation figure that chooses a stage's best epoch."""

    name: str
    mode: Literal["min", "max"]

    def better(self, value: float, best: float | None) -> bool:
        """Whether `value` beats `best`; anything beats None."""
        if best is None:
            return True
        return value < best if self.mode == "min" else value > best


LOSS = Monitor("loss", "min")


@dataclass(frozen=True)
class Term:
    """One part of a loss: `weight * loss(student feature, target)`.

    The target is the teacher's feature `teacher`, or the labels where that is None. Where the two
    features differ in width, `adapter="conv1x1"` puts a 1×1 convolution behind the student's; it
    learns with the stage and is no part of the student. `adapter="none"` makes that an error.
    """

    name: str
    loss: Loss
    student: str
    teacher: str | None = None
    weight: float = 1.0
    adapter: Adapter = "conv1x1"


@dataclass(frozen=True)
class Stage:
    """The student's blocks `trains` learn `terms` for some epochs; all others are frozen.

    With `cut`, the gradient of a term ends at the inputs of its own block, so that every block
    learns by itself although all run in one pass.
    """

    name: str
    trains: tuple[str, ...]
    terms: tuple[Term, ...]
    epochs: int
    monitor: Monitor
    cut: bool = False

    @property
    def reads(self) -> tuple[set[str], set[str]]:
        """The features of the student and of the teacher that the terms are made of."""
        ours = {term.student for term in self.terms}
        return ours, {term.teacher for term in self.terms if term.teacher is not None}

    @property
    def sees_labels(self) -> bool:
        """Whether any term needs labels."""
        return any(term.teacher is None for term in self.terms)

    @property
    def graftable(self) -> bool:
        """Whether the stage matches features only, so that the teacher can finish the work."""
        return not self.sees_labels and all(term.student != LOGITS for term in self.terms)


Plan = tuple[Stage, ...]
