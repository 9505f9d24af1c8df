"""How far the jobs of a study are, from what lies in its folder."""

import csv
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from omegaconf import OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from stagewise_kd.comparison.runs import main_metric
from stagewise_kd.methods.plan import Monitor
from stagewise_kd.runs.study import FAILURES, LIST
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import read_json
from stagewise_kd.system.names import method_name
from stagewise_kd.system.run_folder import COLUMNS, is_running

State = Literal["finished", "running", "interrupted", "failed", "waiting"]
ENDED = ("finished", "failed")
STYLES = {"finished": "green", "running": "bold", "interrupted": "yellow", "failed": "red"}


@dataclass(frozen=True)
class Job:
    """What became of a job so far.

    Args:
        name: of its run folder, below the study's.
        method: that it trains by.
        state: running is what a process holds the lock of; failed is noted by the study.
        stage: such as "3/6 layer1, epoch 2/5".
        best: the best figure of the stage by its monitor; of a finished run the test metric.
        seconds: of training; None before it starts.
    """

    name: str
    method: str | None
    state: State
    stage: str = ""
    best: str = ""
    seconds: float | None = None


def show_status(folder: Path, watch: bool = False) -> None:
    """Print how far a study is.

    Args:
        folder: of a study, or any folder of run folders.
        watch: print it again and again until all jobs have ended, or until Ctrl-C.

    Raises:
        UserError: there is no run in the folder.
    """
    console = Console()
    jobs = read_jobs(folder)
    if not watch:
        table = jobs_table(jobs)
        if not console.is_terminal:  # whoever reads it: whole lines
            wide = console.options.update(max_width=1000)
            table.width = Measurement.get(console, wide, table).maximum
        console.print(table, crop=False)
        console.print(summary(jobs), highlight=False, soft_wrap=True)
        return
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            rows = _most_telling(jobs, console.height - 6)
            live.update(Group(jobs_table(rows), summary(jobs)), refresh=True)
            if all(job.state in ENDED for job in jobs):
                return
            time.sleep(2)
            jobs = read_jobs(folder)


def read_jobs(folder: Path) -> list[Job]:
    """The planned jobs in their order, then all other runs below a folder, but no teachers.

    Raises:
        UserError: there are none.
    """
    planned: dict[Path, str | None] = {}
    for file in sorted(folder.rglob(LIST)):
        study = read_json(file)
        methods = study.get("methods", {})
        planned |= {file.parent / name: methods.get(name) for name in study["jobs"]}
    found = dict.fromkeys(file.parent for file in sorted(folder.rglob("manifest.json")))
    if not planned and not found:
        raise UserError(
            f"{folder}: {'holds no runs' if folder.is_dir() else 'no such folder'}; "
            "give the folder of a study (its out=), or one that holds run folders"
        )
    stores = {Path(store).resolve() for path in found if (store := _config(path)[1])}
    paths = {p: None for p in found if not stores & set(p.resolve().parents)} | planned
    ordered = [*planned, *(path for path in paths if path not in planned)]
    return [_read(folder, path, paths[path]) for path in ordered]


@cache
def _config(path: Path) -> tuple[str | None, str | None]:
    """The method of a run, and where the teachers lie that it trains for itself."""
    config: Any = OmegaConf.load(path / "config.yaml")
    store = OmegaConf.select(config, "teacher.store")
    return method_name(config), store


def _read(study: Path, path: Path, method: str | None) -> Job:
    name = str(path.relative_to(study)) if path != study else path.name
    result = read_json(path / "result.json")
    if result is not None:
        return _finished(name, result)
    started = (path / "manifest.json").is_file()
    if is_running(path):
        state: State = "running"
    elif _has_failed(path):
        state = "failed"
    else:
        state = "interrupted" if started else "waiting"
    if not started:
        return Job(name, method, state, "preparing" if state == "running" else "")
    method = method or _config(path)[0]
    return Job(name, method, state, *_progress(path), _seconds(path, state == "running"))


def _has_failed(path: Path) -> bool:
    homes = ((home / FAILURES, path.relative_to(home)) for home in path.parents)
    return any((failures / f"{name}.txt").is_file() for failures, name in homes)


def _finished(name: str, result: Mapping[str, Any]) -> Job:
    count, metric = len(result["stages"]), main_metric(dict(result))
    best = f"test {metric} {result['student_metrics'][metric]:.4f}"
    return Job(name, result["method"], "finished", f"{count}/{count}", best, result["seconds"])


def _done(path: Path) -> list[Path]:
    return sorted(path.glob("stages/*/stage.json"))


def _progress(path: Path) -> tuple[str, str]:
    """The stage that an unfinished run is at, and the best figure of that stage."""
    plan = (read_json(path / "manifest.json") or {}).get("plan")
    if not plan:  # a run that an older version has started
        return "", ""
    index = min(len(_done(path)), len(plan) - 1)
    stage = plan[index]
    monitor = Monitor(stage["monitor"], stage["mode"])
    values = _values(path / "metrics.csv", stage["name"], f"val/{monitor.name}")
    epoch, step, _ = values[-1] if values else (-1, 0, 0.0)
    done = (
        f"step {step}/{steps}"
        if (steps := stage.get("steps"))
        else f"epoch {epoch + 1}/{stage['epochs']}"
    )
    text = f"{index + 1}/{len(plan)} {stage['name']}, {done}"
    best = None
    for *_, value in values:
        best = value if monitor.better(value, best) else best
    return text, "" if best is None else f"val {monitor.name} {best:.4f}"


def _values(path: Path, stage: str, name: str) -> list[tuple[int, int, float]]:
    """A figure of a stage, with epoch and step."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(COLUMNS)]
    with suppress(ValueError):  # a last line that is just being written
        return [
            (int(row[1]), int(row[2]), float(row[4]))
            for row in rows
            if (row[0], row[3]) == (stage, name)
        ]
    return []


def _seconds(path: Path, running: bool) -> float:
    """Seconds of the finished stages, and those since; of a stage gone on with, since then."""
    done, figures = _done(path), path / "metrics.csv"
    began = max(file.stat().st_mtime for file in [path / "manifest.json", *done])
    now = time.time() if running or not figures.is_file() else figures.stat().st_mtime
    since = max(now - began, 0.0) if running or figures.is_file() else 0.0
    return sum((read_json(file) or {})["seconds"] for file in done) + since


def time_left(jobs: Sequence[Job]) -> float | None:
    """Seconds until all jobs have ended, if each takes as long as the finished ones did on average.

    Those of its own method count, where there are any. None: nothing to tell it from.
    """
    ended = [job for job in jobs if job.state == "finished"]
    ahead = [job for job in jobs if job.state not in ENDED]
    if not ended or not ahead:
        return None
    at_once = max(sum(job.state == "running" for job in jobs), 1)

    def expected(job: Job) -> float:
        same = [other for other in ended if other.method == job.method] or ended
        return fmean(other.seconds or 0.0 for other in same)

    return sum(max(expected(job) - (job.seconds or 0.0), 0.0) for job in ahead) / at_once


def summary(jobs: Sequence[Job]) -> str:
    """One line: how many jobs have ended and how, and how long the others may take."""
    counts = Counter(job.state for job in jobs)
    parts = [f"{counts['finished']} of {len(jobs)} finished"]
    parts += [f"{counts[s]} {s}" for s in ("running", "interrupted", "failed") if counts[s]]
    left = time_left(jobs)
    return ", ".join(parts) + (f"; about {_clock(left)} left" if left is not None else "")


def jobs_table(jobs: Sequence[Job]) -> Table:
    """A line a job, for the terminal."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("job", "state", "stage", "best"):
        table.add_column(name)
    table.add_column("time", justify="right")
    for job in jobs:
        spent = "" if job.seconds is None else _clock(job.seconds)
        state = f"[{STYLES[job.state]}]{job.state}[/]" if job.state in STYLES else job.state
        table.add_row(escape(job.name), state, job.stage, job.best, spent)
    return table


def _most_telling(jobs: Sequence[Job], count: int) -> list[Job]:
    """As many jobs as there is room for, in their order; the first to go are the finished ones."""
    order = ("running", "failed", "interrupted", "waiting", "finished")
    kept = sorted(jobs, key=lambda job: order.index(job.state))[: max(count, 1)]
    return [job for job in jobs if job in kept]


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
