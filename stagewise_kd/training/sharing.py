"""Stages that several runs have in common, trained once."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors.torch import load_file
from torch import nn

from stagewise_kd.methods.outline import outline, told
from stagewise_kd.methods.plan import Stage
from stagewise_kd.networks.blocks import IMAGE, BlockNet
from stagewise_kd.networks.hashes import weights_hash
from stagewise_kd.system.console import console
from stagewise_kd.system.files import read_json, write_json
from stagewise_kd.system.processes import from_first, rank
from stagewise_kd.training.recorder import BEST, write_best
from stagewise_kd.training.stage_module import names_of

RECORD = "stage.json"


class SharedStages:
    """Finds the stages of a plan, in their order, among those that other runs have finished.

    A stage is the same where all is that its outcome depends on: `basis`, the stage and those
    before it, and the blocks of the student that it runs, with their weights. What a run takes
    from another is what it would have trained itself.

    Args:
        folder: where runs tell one another where their stages lie; None: they do not.
        basis: what every stage of the run depends on, as plain values.
    """

    def __init__(self, folder: Path | None, basis: Any = None) -> None:
        self.folder = folder
        self.key = _digest(basis)

    @contextmanager
    def other(
        self, stage: Stage, student: BlockNet, adapters: nn.ModuleDict, here: Path
    ) -> Iterator[Path | None]:
        """The folder of the same stage in another run, or None; waits while one is training it.

        Args:
            stage: the next one of the plan.
            student: as the stage starts from it.
            adapters: of the stage, likewise.
            here: the stage's folder in this run, of which other runs know afterwards.
        """
        if self.folder is None:
            yield None
            return
        self.key = _digest([self.key, outline(stage), _start(stage, student, adapters)])
        with _alone(self.folder / f"{self.key}.lock", stage.name):
            found = from_first(self._find())
            yield found
            if found is None and rank() == 0:
                self._tell(here)

    def _find(self) -> Path | None:
        entry = read_json(self._entry)
        if entry is None:
            return None
        folder = Path(os.path.normpath(self._entry.parent / entry["stage"]))
        # The run may have been deleted since, and another have taken its place.
        record = read_json(folder / RECORD)
        return folder if record and record.get("key") == self.key else None

    def _tell(self, here: Path) -> None:
        record = read_json(here / RECORD)
        write_json(here / RECORD, record | {"key": self.key})
        with suppress(OSError, ValueError):  # on another drive; a run that tells none goes on
            write_json(self._entry, {"stage": os.path.relpath(here, self._entry.parent)})

    @property
    def _entry(self) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.key}.json"


def take(
    other: Path, stage: Stage, student: BlockNet, adapters: nn.ModuleDict, here: Path
) -> dict[str, Any]:
    """Write what the same stage of another run has trained as if it had been trained here.

    Args:
        other: the stage's folder there.
        stage: the stage.
        student: as the stage starts from it.
        adapters: of the stage.
        here: the stage's folder in this run.

    Returns:
        The record of the stage; "from" tells the run that has trained it.
    """
    record: dict[str, Any] = read_json(other / RECORD)
    ours = {f"model.{name}" for name in names_of(student.model, student.modules_of(stage.trains))}
    if rank() == 0:
        here.mkdir(parents=True, exist_ok=True)
        found = load_file(other / BEST)
        taken = {k: v for k, v in found.items() if k in ours or k.startswith("adapters.")}
        write_best(here / BEST, student, taken)
    return record | {"from": os.path.relpath(other.parents[1], here.parents[1])}


def _start(stage: Stage, student: BlockNet, adapters: nn.ModuleDict) -> list[Any]:
    """What a stage's outcome depends on of the student, as plain values."""
    runs = {*student.needed({IMAGE}, stage.features), *stage.trains}
    blocks = [block for name, block in student.blocks.items() if name in runs]
    modules = nn.ModuleList(block.module for block in blocks)
    return [
        [(block.name, block.reads, block.role, told(block.module)) for block in blocks],
        names_of(student.model, modules),
        weights_hash(modules),
        weights_hash(adapters),
        [student.mean.tolist(), student.std.tolist()],
    ]


@contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    """Hold a lock that other runs wait for; none where its folder cannot be written."""
    if rank() > 0:
        yield
        return
    held = FileLock(lock)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=1)
        except Timeout:
            console.print(f"{name}: another run trains the same stage; waiting for it")
            held.acquire()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # Windows deletes no open file
            lock.unlink()  # before others get it: at worst two train the same
        held.release()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
