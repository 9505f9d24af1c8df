"""What a run trains, stage by stage, and the check that it can be done."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from stagewise_kd.networks.blocks import IMAGE, LOGITS, BlockNet
from stagewise_kd.networks.matching import Match

Loss = Callable[[Tensor, Tensor], Tensor]
Adapter = Literal["conv1x1", "none", "free"]
Fed = Literal["student", "teacher"]
Norm = Literal["train", "frozen"]


@dataclass(frozen=True)
class Monitor:
    """The validation figure that chooses a stage's best epoch.

    With less than `least` validation images it would be chance (docs/results.md): the last epoch is
    kept.
    """

    name: str
    mode: Literal["min", "max"]
    least: int = 0

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
    features differ in width, `adapter="conv1x1"` puts a 1×1 convolution behind the student's (of
    tokens a linear layer); it learns with the stage and is no part of the student. "none" makes
    that an error, and "free" is for a loss that compares features of any width. With `resize` it
    also scales the student's map to the teacher's resolution, and lays tokens out as a map.
    """

    name: str
    loss: Loss
    student: str
    teacher: str | None = None
    weight: float = 1.0
    adapter: Adapter = "conv1x1"
    resize: bool = False


@dataclass(frozen=True)
class Stage:
    """The student's blocks `trains` learn `terms` for some epochs; all others are frozen.

    Args:
        name: of the stage, and of its folder.
        trains: blocks of the student.
        terms: added up.
        epochs: of the stage; with `steps`, how many those may be at most.
        monitor: chooses its best epoch.
        cut: the gradient of a term ends where another term's feature is read, so that every block
            learns by itself although all run in one pass.
        fed: "student": a block reads the student's features before it. "teacher": the teacher's
            that stand for them, so that no block depends on another (block-local distillation).
        match: of a stage fed by the teacher: pairs of a feature of the student and the one of the
            teacher that stands for it.
        steps: of the optimizer, where the stage is not as long as whole epochs; see `in_steps`.
        norm: "frozen": BatchNorm of the trained blocks uses and keeps the statistics that it has.
    """

    name: str
    trains: tuple[str, ...]
    terms: tuple[Term, ...]
    epochs: int
    monitor: Monitor
    cut: bool = False
    fed: Fed = "student"
    match: tuple[Match, ...] = ()
    steps: int | None = None
    norm: Norm = "train"

    @property
    def features(self) -> set[str]:
        """The features of the student that the terms are made of."""
        return {term.student for term in self.terms}

    @property
    def targets(self) -> set[str]:
        """The features of the teacher that the terms are made of."""
        return {term.teacher for term in self.terms if term.teacher is not None}

    def starts(self, student: BlockNet) -> set[str]:
        """The features of the student that must be known before a step, of all that is frozen."""
        if self.fed == "student":
            return student.frontier(self.features, self.trains)
        return {read for name in self.features for read in self._reads(student, name)}

    def _reads(self, student: BlockNet, feature: str) -> set[str]:
        """What the blocks of one term read when the teacher feeds them."""
        given = {IMAGE, *dict(self.match)} - {feature}
        run = student.needed(given, {feature})
        return {read for name in run for read in student.blocks[name].reads} - set(run)

    def inputs(self, student: BlockNet) -> dict[str, str]:
        """The features of the teacher that are read in place of the student's, by the latter."""
        if self.fed == "student":
            return {}
        return {ours: theirs for ours, theirs in self.match if ours in self.starts(student)}

    @property
    def title(self) -> str:
        """The name, and of features that are learned at once what the number of epochs comes of."""
        count, length = len(self.terms), self.steps or self.epochs
        if not self.cut or count == 1 or length % count:
            return self.name
        return f"{self.name} ({count} × {length // count} {'steps' if self.steps else 'epochs'})"

    @property
    def sees_labels(self) -> bool:
        """Whether any term needs labels."""
        return any(term.teacher is None for term in self.terms)

    @property
    def graftable(self) -> bool:
        """Whether the stage matches features only, so that the teacher can finish the work."""
        return not self.sees_labels and all(term.student != LOGITS for term in self.terms)


Plan = tuple[Stage, ...]


def in_steps(plan: Plan) -> Plan:
    """A plan whose numbers of epochs were meant as steps of the optimizer."""
    return tuple(replace(stage, steps=stage.epochs) for stage in plan)
