"""The folder of one run: what is in it, who may write it, and how far it is."""

import csv
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import (
    TEXT,
    is_full,
    read_json,
    write_json,
    write_text,
    write_whole,
)
from stagewise_kd.system.processes import barrier, rank

COLUMNS = ["stage", "epoch", "step", "name", "value"]
MEANINGS = {
    "split_hash": "the splits name other samples",
    "data_hash": "samples of the data have another content",
    "teacher_hash": "the teacher has other weights",
    "student_hash": "the student starts from other weights: call torch.manual_seed before you "
    "build it, or load the same ones",
}
PACKAGES = ["stagewise-kd", "torch", "torchvision", "lightning"]


@dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run; in a run of several processes only the first one writes."""

    path: Path

    @property
    def result(self) -> dict[str, Any] | None:
        """The result of a finished run, else None."""
        return read_json(self.path / "result.json")

    def stage(self, index: int, name: str) -> Path:
        """Folder of a stage, such as 00-stem."""
        return self.path / "stages" / f"{index:02d}-{name}"

    def check_config(self, config: str) -> None:
        """Refuse a folder that holds something else than a run of this configuration.

        Args:
            config: the resolved configuration as YAML.

        Raises:
            UserError: the folder is another run's, or not a run's at all.
        """
        kept = self.path / "config.yaml"
        if kept.is_file():
            if lines := _changed(kept.read_text(**TEXT), config):
                raise UserError(
                    f"{self.path}: holds a run of another configuration ({'; '.join(lines)}); "
                    "give another out=DIR, or delete the folder"
                )
        elif self.path.is_dir() and any(p.name != ".lock" for p in self.path.iterdir()):
            raise UserError(f"{self.path}: is not empty and holds no run; give another out=DIR")

    def check_identity(self, identity: dict[str, Any]) -> None:
        """Refuse to go on with something else than what the run started from.

        Args:
            identity: hashes and plain values by name, such as {"teacher_hash": "…"}.

        Raises:
            UserError: names what differs.
        """
        kept = read_json(self.path / "manifest.json")
        told = [_differs(key, kept.get(key), now) for key, now in identity.items()] if kept else []
        if faults := [fault for fault in told if fault]:
            raise UserError(
                f"{self.path}: holds a run that started from something else "
                f"({'; '.join(faults)}); give another out, or delete the folder"
            )

    def start(self, config: str, facts: dict[str, Any], splits: dict[str, list[str]]) -> None:
        """Write the configuration, the split and the manifest of a new run."""
        if rank() == 0 and not (self.path / "manifest.json").is_file():
            write_text(self.path / "config.yaml", config)  # first: it marks the folder as a run's
            (self.path / "splits").mkdir(exist_ok=True)
            for split, names in splits.items():
                write_text(self.path / "splits" / f"{split}.txt", "\n".join(names) + "\n")
            write_json(self.path / "manifest.json", {**versions(), **facts, "stages": {}})
        barrier()

    def set_stage(self, name: str, state: str) -> None:
        """Note the state of a stage in the manifest: running, then done."""
        if rank() == 0:
            manifest = read_json(self.path / "manifest.json") or {}
            manifest["stages"][name] = state
            write_json(self.path / "manifest.json", manifest)

    def add_metrics(self, stage: str, epoch: int, step: int, values: dict[str, float]) -> None:
        """Append the figures of one epoch to metrics.csv."""
        if rank() == 0:
            path = self.path / "metrics.csv"
            new = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                rows = csv.writer(file)
                if new:
                    rows.writerow(COLUMNS)
                rows.writerows((stage, epoch, step, *item) for item in values.items())

    def metrics(self, stage: str) -> Iterator[tuple[int, int, dict[str, float]]]:
        """Epoch, step and figures of each epoch of a stage, from metrics.csv."""
        rows = [row for row in self._rows() if row[0] == stage]
        for (epoch, step), figures in groupby(rows, lambda row: (int(row[1]), int(row[2]))):
            yield epoch, step, {row[3]: float(row[4]) for row in figures}

    def _rows(self) -> list[list[str]]:
        """The whole rows of metrics.csv, its head first."""
        path = self.path / "metrics.csv"
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.reader(file) if len(row) == len(COLUMNS)]

    def drop_metrics(self, stage: str, epoch: int) -> None:
        """Take out what an interrupted run wrote of a stage from `epoch` on."""
        path = self.path / "metrics.csv"
        if rank() == 0 and path.exists():
            kept = [
                r for r in self._rows() if r[0] != stage or not r[1].isdigit() or int(r[1]) < epoch
            ]

            def write(temporary: Path) -> None:
                with temporary.open("w", newline="", encoding="utf-8") as file:
                    csv.writer(file).writerows(kept)

            write_whole(path, write)


@contextmanager
def open_run(path: Path, wait: bool = False, setting: str = "out") -> Iterator[RunFolder]:
    """Make and lock a run folder; on an error before anything was written, leave no trace.

    Args:
        path: the folder.
        wait: wait for another process to finish with it, instead of refusing.
        setting: that says where it lies.

    Raises:
        UserError: the folder cannot be written, now or later, or another process is at work in it.
    """
    if "RANK" in os.environ and int(os.environ["RANK"]) > 0:
        yield RunFolder(path)
        return
    made = [p for p in (path, *path.parents) if not p.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=-1 if wait else 1)  # 1 s: `is_running` holds it for an instant
    except Timeout:
        raise UserError(
            f"{path}: another process is working on this run; wait for it, or give another out=DIR"
        ) from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); give another {setting}=DIR"
        ) from None
    try:
        yield RunFolder(path)
    except OSError as error:
        if not is_full(error):
            raise
        raise UserError(
            f"{error.filename or path}: cannot be written ({error.strerror}); make room, and the "
            f"same command goes on where it was saved, or give another {setting}=DIR"
        ) from None
    finally:
        if made and not (path / "config.yaml").exists():
            (path / ".lock").unlink(missing_ok=True)
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()
        lock.release()


def is_running(path: Path) -> bool:
    """Whether a process is at work in a run folder, which may be missing; leaves nothing there."""
    if not (path / ".lock").is_file():
        return False
    try:
        with FileLock(path / ".lock").acquire(timeout=0):
            return False
    except Timeout:
        return True


def _differs(name: str, kept: Any, now: Any) -> str | None:
    """What a reader has to know where a part of a run's identity is not what it was."""
    if kept == now:
        return None
    if name == "samples":
        return f"samples were {kept}, now {now}"
    if name != "plan":
        return MEANINGS.get(name, f"{name} was {kept}, now {now}")
    stages = [[stage["name"] for stage in plan] for plan in (kept or [], now)]
    if stages[0] != stages[1]:
        return f"the plan had stages {', '.join(stages[0])}, now {', '.join(stages[1])}"
    was, is_ = next((a, b) for a, b in zip(kept, now, strict=True) if a != b)
    parts = [f"{key} was {was.get(key)}, now {is_[key]}" for key in is_ if was.get(key) != is_[key]]
    return f"stage {is_['name']!r} of the plan: {'; '.join(parts)}"


def _changed(old: str, new: str) -> list[str]:
    """Lines of two YAML texts that differ, the first few."""
    before, after = old.splitlines(), new.splitlines()
    gone = [f"was {line.strip()}" for line in before if line not in after]
    come = [f"now {line.strip()}" for line in after if line not in before]
    return [*gone[:3], *come[:3]]


def versions() -> dict[str, Any]:
    """Versions of what computes, and our commit where we run from a checkout."""
    packages = {}
    for name in PACKAGES:
        with suppress(ImportError):
            packages[name] = version(name)
    commit = None
    with suppress(OSError, subprocess.SubprocessError):
        here = Path(__file__).parent
        command = ["git", "-C", str(here), "rev-parse", "HEAD"]
        commit = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    return {"versions": {"python": platform.python_version(), **packages}, "commit": commit}
