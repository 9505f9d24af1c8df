"""What of a stage is worth keeping in the feature cache, within a budget of bytes."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import psutil
import torch

from stagewise_kd.data.loaders import LABELS, Column, Owner
from stagewise_kd.methods.plan import Stage
from stagewise_kd.networks.blocks import IMAGE, BlockNet
from stagewise_kd.networks.cost import counting

LOADING = 1000  # operations a byte: about what decoding and augmenting an image costs
BACKWARD = 2  # times the operations of the forward pass
SHARE = 0.25  # of what is free, where no budget is given
GB = 1e9


@dataclass(frozen=True)
class Caching:
    """How features are cached.

    Args:
        views: augmented views of each image; epoch e of a cached stage uses view e mod views.
        budget_gb: never exceeded, above 0; None for a quarter of the free memory, or of the free
            disk where that is less.
        dtype: of features; bfloat16 loses nothing where the networks run in it.
        dir: folder for the files; None for the run folder.
    """

    views: int = 4
    budget_gb: float | None = None
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    dir: str | None = None


def allowed(caching: Caching, folder: Path) -> float:
    """Bytes that a cache in this folder may take."""
    if caching.budget_gb is not None:
        return caching.budget_gb * GB
    place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    return SHARE * min(shutil.disk_usage(place).free, psutil.virtual_memory().available)


class Cost(NamedTuple):
    """Of one block for one image."""

    shape: tuple[int, ...]
    operations: int


def survey(net: BlockNet, shape: tuple[int, ...]) -> dict[str, Cost]:
    """Shape of every block's feature and operations of every block, for one image.

    Args:
        net: put in eval mode.
        shape: channels, height and width of an image.
    """
    net.eval()
    have, costs = {IMAGE: torch.zeros(1, *shape, device=net.mean.device)}, {}
    with torch.no_grad():
        net.features(have, {*net.names})  # the first time blocks are tried out, too
        for name in net.names:
            with counting() as counter:
                have |= net.features(have, {name})
            costs[name] = Cost(tuple(have[name].shape[1:]), counter.get_total_flops())
    return costs


@dataclass(frozen=True)
class Demand:
    """What the steps of a stage start from, and what it costs to get there.

    Args:
        stage: the stage.
        nets: "student" and, where there is one, "teacher".
        costs: of each, from `survey`.
        image: bytes of an image.
    """

    stage: Stage
    nets: dict[Owner, BlockNet]
    costs: dict[Owner, dict[str, Cost]]
    image: int

    @property
    def wanted(self) -> dict[Owner, set[str]]:
        """Features of each network that the trained blocks and the terms read."""
        student = self.nets["student"]
        inputs = self.stage.inputs(student)
        found: dict[Owner, set[str]] = {"student": self.stage.starts(student) - set(inputs)}
        if "teacher" in self.nets:
            teacher = self.nets["teacher"]
            found["teacher"] = {teacher.resolve(n) for n in self.stage.taken(student, teacher)}
        return found

    @property
    def cacheable(self) -> bool:
        """Whether a cache helps: a stage that learns labels from the image needs fresh views.

        There augmentation matters most, and nothing is frozen that could be read instead of run.
        """
        return not (self.stage.sees_labels and IMAGE in self.wanted["student"])

    @property
    def columns(self) -> set[Column]:
        """All that the stage could read instead of making it at each step."""
        found = {
            Column("data", IMAGE) if name == IMAGE else Column(owner, name)
            for owner, names in self.wanted.items()
            for name in names
        }
        return found | ({Column("data", LABELS)} if self.stage.sees_labels else set())

    def to_run(self, cached: Iterable[Column]) -> dict[Owner, list[str]]:
        """The blocks of each network that run before a step when these columns are cached."""
        given = {owner: {c.name for c in cached if c.owner == owner} for owner in self.nets}
        return {
            owner: net.needed({IMAGE, *given[owner]}, self.wanted[owner] - {IMAGE})
            for owner, net in self.nets.items()
        }

    def loads(self, cached: set[Column]) -> bool:
        """Whether image or labels must come from the samples when these columns are cached."""
        reads = self.wanted["student"] | {
            feature
            for owner, names in self.to_run(cached).items()
            for name in names
            for feature in self.nets[owner].blocks[name].reads
        }
        image = IMAGE in reads and Column("data", IMAGE) not in cached
        return image or (self.stage.sees_labels and Column("data", LABELS) not in cached)

    def before(self, cached: set[Column]) -> int:
        """Operations a sample before a step when these columns are cached."""
        runs = self.to_run(cached)
        blocks = sum(self.costs[net][name].operations for net in runs for name in runs[net])
        return blocks + LOADING * self.image * self.loads(cached)

    @property
    def learning(self) -> int:
        """Operations a sample of the trained blocks and those behind them, forward and backward."""
        student = self.nets["student"]
        run = student.needed({IMAGE, *self.wanted["student"]}, self.stage.features)
        live = run if self.stage.fed == "student" else self.stage.trains
        costs = [self.costs["student"][name] for name in live]
        if teacher := self.nets.get("teacher"):
            behind = [name for term in self.stage.terms for name in term.behind(teacher)]
            costs += [self.costs["teacher"][name] for name in behind]
        return (1 + BACKWARD) * sum(cost.operations for cost in costs)

    def speedup(self, cached: set[Column]) -> float:
        """Estimated ratio of a step without any cache to one with these columns cached."""
        whole, rest = self.learning + self.before(set()), self.learning + self.before(cached)
        return whole / max(rest, 1)


def choose(demand: Demand, sizes: dict[Column, int], budget: float) -> set[Column]:
    """The columns to cache: those are left out first that save the least a byte.

    Args:
        demand: of the stage.
        sizes: bytes of each column, all samples and views together.
        budget: bytes.
    """
    chosen = set(sizes)
    while sum(sizes[column] for column in chosen) > budget:
        have = demand.before(chosen)
        saved = {c: (demand.before(chosen - {c}) - have) / sizes[c] for c in sorted(chosen)}
        chosen.remove(min(saved, key=saved.__getitem__))
    return {column for column in chosen if demand.before(chosen - {column}) > demand.before(chosen)}


def described(chosen: set[Column], sizes: dict[Column, int], views: int, demand: Demand) -> str:
    """One line that tells what is cached: "inputs 0.8 GB + targets 0.4 GB cached, 4 views; …"."""
    kinds = {"data": "data", "student": "inputs", "teacher": "targets"}
    parts = []
    for owner, kind in kinds.items():
        wanted, kept = (
            sum(sizes[column] for column in columns if column.owner == owner)
            for columns in (sizes, chosen)
        )
        if kept:
            whole = "" if kept == wanted else f" of {_gigabytes(wanted)}"
            parts.append(f"{kind} {_gigabytes(kept)}{whole}")
    shown = f"{views} view{'s' * (views > 1)}"
    if not parts:
        return f"nothing cached, {shown}; cache.budget_gb is too small"
    speedup = demand.speedup(chosen)
    times = f"{speedup:.1f}" if speedup < 100 else "over 100"
    return f"{' + '.join(parts)} cached, {shown}; est. {times}× faster"


def _gigabytes(size: float) -> str:
    return f"{size / GB:.1f} GB" if size >= GB / 10 else f"{size / 1e6:.1f} MB"
