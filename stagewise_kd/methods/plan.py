"""What a run trains, stage by stage, and the check that it can be done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from stagewise_kd.networks.blocks import IMAGE, LOGITS, BlockNet
from stagewise_kd.networks.layout import Shape
from stagewise_kd.networks.matching import Match

Loss = Callable[..., Tensor]
Build = Callable[[Sequence[Shape], Sequence[Shape]], nn.Module]
Adapter = Literal["conv1x1", "none", "free"] | Build
Names = str | tuple[str, ...]
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

    The target is the teacher's feature `teacher`, or the labels where that is None; with `labels`
    the loss is given those too, as its third argument. Several features of either side come as
    tuples.

    Where features differ in width, `adapter="conv1x1"` puts a 1×1 convolution behind the student's
    (of tokens a linear layer); it learns with the stage and is no part of the student. "none" makes
    that an error, "free" is for a loss that compares features of any width, and a function of both
    sides' shapes makes a module of one's own, which is given the student's features. With `resize`
    it also scales the student's map to the teacher's resolution, and lays tokens out as a map.

    With `through` the student's features stand for those of the teacher, whose blocks behind them
    go on to its feature `teacher`: gradients pass through them, they do not change.
    """

    name: str
    loss: Loss
    student: Names
    teacher: Names | None = None
    weight: float = 1.0
    adapter: Adapter = "conv1x1"
    resize: bool = False
    through: Names | None = None
    labels: bool = False

    @property
    def ours(self) -> tuple[str, ...]:
        """The student's features."""
        return _names(self.student)

    @property
    def theirs(self) -> tuple[str, ...]:
        """The teacher's features that are the target."""
        return _names(self.teacher)

    @property
    def pairs(self) -> tuple[Match, ...]:
        """Which of the student's features has the shape of which of the teacher's."""
        return tuple(zip(self.ours, _names(self.through or self.teacher), strict=False))

    def behind(self, teacher: BlockNet) -> list[str]:
        """The teacher's blocks that go on from the student's features, in running order."""
        live, found = {*_names(self.through)}, []
        for name in teacher.needed({IMAGE, *live}, self.theirs) if live else ():
            if live & {*teacher.blocks[name].reads}:
                live.add(name)
                found.append(name)
        return found

    def beside(self, teacher: BlockNet) -> set[str]:
        """What those blocks read of the teacher's own features."""
        run = self.behind(teacher)
        read = {feature for name in run for feature in teacher.blocks[name].reads}
        return read - {*run, *_names(self.through)}


def _names(given: Names | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else given


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
        norm: "frozen": BatchNorm of the trained blocks uses and keeps the statistics that it has;
            "train": those of each batch. None: what the networks show to be better.
        patience: end the stage after so many validations in a row that were no better by its
            monitor; None: train all epochs. Needs as many images as the monitor does.
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
    norm: Norm | None = "train"
    patience: int | None = None

    @property
    def features(self) -> set[str]:
        """The features of the student that the terms are made of."""
        return {name for term in self.terms for name in term.ours}

    def taken(self, student: BlockNet, teacher: BlockNet) -> set[str]:
        """The features of the teacher that a step reads."""
        found = {*self.inputs(student).values()}
        return found.union(*({*term.theirs} | term.beside(teacher) for term in self.terms))

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
        return any(term.teacher is None or term.labels for term in self.terms)

    @property
    def needs_labels(self) -> bool:
        """Whether an image without a label would teach nothing."""
        taught = any(term.teacher is not None for term in self.terms)
        return self.sees_labels and (not taught or any(term.labels for term in self.terms))

    @property
    def graftable(self) -> bool:
        """Whether each term makes a feature of the teacher's, so that it can finish the work."""
        return not self.sees_labels and all(
            term.adapter in ("conv1x1", "none")
            and (term.through is not None or isinstance(term.student, str))
            and LOGITS not in term.ours
            for term in self.terms
        )


Plan = tuple[Stage, ...]


def in_steps(plan: Plan) -> Plan:
    """A plan whose numbers of epochs were meant as steps of the optimizer."""
    return tuple(replace(stage, steps=stage.epochs) for stage in plan)
