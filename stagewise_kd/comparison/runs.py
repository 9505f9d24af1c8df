"""Finished runs: found below folders, read, and told apart by their settings."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from stagewise_kd.comparison.settings import Settings, chosen, differences
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import read_json

KEPT = ("teacher_hash", "dataset_hash", "architectures")  # of the manifest
FACTS = ("task", "dataset", "data_fraction", "method", "student", "decoder", "protocol")


@dataclass(frozen=True)
class Run:
    """A finished run: where it lies, what was asked for, what came out."""

    path: Path
    config: dict[str, Any]
    result: dict[str, Any]
    teacher_hash: str | None = None
    dataset_hash: str | None = None
    architectures: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Every logged value: stage, epoch, step, name, value."""
        path = self.path / "metrics.csv"
        return pd.read_csv(path) if path.is_file() else pd.DataFrame()

    @property
    def has_teacher(self) -> bool:
        """Whether the student learned from a teacher."""
        return bool(self.result["needs_teacher"])

    @property
    def chosen(self) -> Settings:
        """All settings that the student depends on, flat."""
        return chosen(self.config, self.has_teacher, not self.result["reference"])


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed.

    Args:
        runs: at least one.
        settings: what tells the group from the others beside its facts, such as {"epochs": "5"}.
        name: the shortest one that no other group of the comparison has.
    """

    runs: tuple[Run, ...]
    settings: dict[str, str]
    name: str

    @property
    def chosen(self) -> Settings:
        """All settings that the students depend on, flat."""
        return self.runs[0].chosen

    def __getitem__(self, fact: str) -> Any:
        """A key of result.json that all runs share, such as "method"."""
        return self.runs[0].result[fact]


def main_metric(result: dict[str, Any]) -> str:
    """The metric that the task of a result is judged by, such as accuracy."""
    return str(result["metric"])


def direction(result: dict[str, Any]) -> int:
    """1 where more of the main metric is better, -1 where less is."""
    return 1 if result["mode"] == "max" else -1


def read_result(path: Path) -> dict[str, Any]:
    """The result of a finished run.

    Raises:
        UserError: there is none.
    """
    result = read_json(path / "result.json")
    if result is None:
        raise UserError(f"{path}: holds no finished run (no result.json)")
    return dict(result)


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs in the given folders; a folder of runs stands for all finished ones below it.

    Teachers that a run has trained for itself are left out, unless they are named themselves. Data
    sets of one name and several contents get names of their own.

    Raises:
        UserError: a folder holds no finished run, or the runs are of different tasks.
    """
    runs = {run.path.resolve(): run for path in paths for run in _below(path)}
    _check_one_task(list(runs.values()))
    return _datasets_apart(list(runs.values()))


def _datasets_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs, each data set under one name, that of its first run, which no other content has."""
    found: dict[str, tuple[str, str]] = {}  # by content: name, and the folder it lies in
    for run in runs:
        name, root = run.result["dataset"], (run.config.get("data") or {}).get("root")
        home = Path(root).parent.name if root else ""
        found.setdefault(run.dataset_hash or name, (name, home))
    return [_of_dataset(run, found) for run in runs]


def _of_dataset(run: Run, found: dict[str, tuple[str, str]]) -> Run:
    content = run.dataset_hash or run.result["dataset"]
    name, home = found[content]
    homes = [home for other, home in found.values() if other == name]
    note = home if len({*homes}) == len(homes) else content[:6]
    shown = name if len(homes) == 1 else f"{name} ({note})"
    data = {**(run.config.get("data") or {}), "name": name}
    return replace(run, config=run.config | {"data": data}, result=run.result | {"dataset": shown})


def _below(path: Path) -> list[Run]:
    if (path / "result.json").is_file():
        return [_read(path)]
    runs = [_read(file.parent) for file in sorted(path.rglob("result.json"))]
    if not runs:
        read_result(path)  # raises
    teachers = [run.config.get("teacher") or {} for run in runs]
    stores = {Path(teacher["store"]).resolve() for teacher in teachers if teacher.get("store")}
    return [run for run in runs if not stores & set(run.path.resolve().parents)]


def _read(path: Path) -> Run:
    file = path / "config.yaml"
    config: Any = OmegaConf.to_container(OmegaConf.load(file)) if file.is_file() else {}
    manifest = read_json(path / "manifest.json") or {}
    return Run(path, config, read_result(path), **{k: manifest[k] for k in KEPT if k in manifest})


def _check_one_task(runs: Sequence[Run]) -> None:
    first = {main_metric(run.result): run.path for run in reversed(runs)}
    if len(first) > 1:
        listed = ", ".join(f"{path} by {metric}" for metric, path in sorted(first.items()))
        raise UserError(
            f"runs of different tasks cannot be compared: {listed}; compare each task by itself"
        )


def told_apart(runs: Iterable[Run]) -> list[Group]:
    """Put runs that differ in nothing but the seed together, and name what tells groups apart."""
    members: dict[str, list[Run]] = {}
    for run in runs:
        members.setdefault(_identity(run), []).append(run)
    found = sorted(members.values(), key=lambda group: _order(group[0]))
    first = [group[0] for group in found]
    settings = differences([run.chosen for run in first])
    varied = {fact for fact in FACTS if len({json.dumps(run.result[fact]) for run in first}) > 1}
    names = [_name(run, told, varied) for run, told in zip(first, settings, strict=True)]
    for run, told, name in zip(first, settings, names, strict=True):
        if names.count(name) > 1 and run.teacher_hash:  # by another teacher of the same kind
            told["teacher_weights"] = run.teacher_hash[:8]
    return [
        Group(tuple(group), told, _name(group[0], told, varied))
        for group, told in zip(found, settings, strict=True)
    ]


def _identity(run: Run) -> str:
    facts = [run.result[fact] for fact in FACTS]
    teacher = [run.result["teacher"], run.teacher_hash] if run.has_teacher else []
    return json.dumps([facts, teacher, run.chosen], sort_keys=True)


def _order(run: Run) -> tuple[str, ...]:
    facts = ("dataset", "data_fraction", "student", "decoder")
    return tuple(str(run.result[fact] or "") for fact in facts)


def _name(run: Run, settings: dict[str, str], varied: set[str]) -> str:
    result = run.result
    student = [result["student"]] if "student" in varied else []
    notes = [f"decoder={result['decoder']}"] if "decoder" in varied and result["decoder"] else []
    notes += [result["dataset"]] if "dataset" in varied else []
    notes += [f"{100 * result['data_fraction']:g}% of data"] if "data_fraction" in varied else []
    notes += [f"{name}={value}" for name, value in settings.items()]
    notes += ["paper protocol"] if "protocol" in varied and result["protocol"] == "paper" else []
    return ", ".join([" ".join([*student, result["method"]]), *notes])
