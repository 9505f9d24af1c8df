"""Trackers: where the figures of a run go beside metrics.csv."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from stagewise_kd.system.files import write_text
from stagewise_kd.system.names import Config, data_name
from stagewise_kd.system.processes import rank
from stagewise_kd.tracking.wandb_run import (
    Mode,
    check_account,
    check_installed,
    check_mode,
    files_in,
    start,
    stop,
)
from stagewise_kd.training.tracker import Tracker

if TYPE_CHECKING:
    import wandb
    from torch.utils.tensorboard import SummaryWriter


def no_tracker(run_path: Path, config: Config, facts: dict[str, Any]) -> None:
    """No tracker beside metrics.csv."""


def tensorboard_tracker(run_path: Path, config: Config, facts: dict[str, Any]) -> Tracker:
    """Track a run in TensorBoard, in the run's folder tensorboard/.

    Raises:
        UserError: tensorboard is not installed.
    """
    check_installed("tensorboard")
    return _TensorBoard(run_path / "tensorboard")


def wandb_tracker(
    run_path: Path,
    config: Config,
    facts: dict[str, Any],
    mode: Mode = "offline",
    project: str = "stagewise-kd",
    group: str | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
) -> Tracker:
    """Track a run in Weights & Biases; a resumed run goes on with the same W&B run.

    Nothing is written or sent before the first epoch has ended.

    Args:
        run_path: the run folder; all files of W&B stay below its wandb/.
        config: the resolved config.
        facts: the keys of result.json that name the experiment.
        mode: offline needs no account and no network; `wandb sync` sends the files later.
        project: of W&B.
        group: shared by the runs of a study; None: the name of the folder that the run is in.
        name: of the run; None: the data and its fraction / the run folder's name.
        tags: of the run, beside what names the experiment: dataset, method, student, ….

    Raises:
        UserError: wandb is not installed, or knows no account that it could send to.
    """
    check_installed("wandb")
    check_mode(mode)
    if rank() == 0:
        check_account(mode)
    path = run_path.absolute()
    options = {
        "mode": mode,
        "project": project,
        "group": group or path.parent.name,
        "name": name or f"{data_name(facts['dataset'], facts['data_fraction'])}/{path.name}",
        "tags": [*_tags(facts), *tags],
        "config": _flat(config, facts),
    }
    return _Wandb(path, options)


def _tags(facts: dict[str, Any]) -> list[str]:
    named = [facts[key] for key in ("dataset", "method", "student", "decoder")]
    numbers = [f"seed{facts['seed']}", f"fraction{facts['data_fraction']:g}"]
    return [name for name in named if name] + numbers


def _flat(config: Config, facts: dict[str, Any]) -> Config:
    """What tells runs apart as single values, for W&B's plots; the whole config as settings."""
    single = {key: value for key, value in config.items() if not isinstance(value, dict)}
    return {**single, **facts, "settings": config}


class _Wandb:
    def __init__(self, path: Path, options: dict[str, Any]) -> None:
        self.path = path
        self.options = options
        self.stages: set[str] = set()
        self._run: wandb.Run | None = None
        self._epochs = 0

    @property
    def run(self) -> "wandb.Run":
        if self._run is None:
            self._run = start(self.path, id=self._id(), resume="allow", **self.options)
            self._epochs = _epochs_before(self.path / "metrics.csv")
        return self._run

    def _id(self) -> str:
        """The id of the W&B run: that of the interrupted run, where there is one."""
        file = self.path / "wandb" / "run_id.txt"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, uuid4().hex[:8])
        return file.read_text(encoding="utf-8")

    def log(self, stage: str, epoch: int, step: int, values: dict[str, float]) -> None:
        """One step of W&B is an epoch; a stage's figures are drawn over its own epochs."""
        run = self.run
        if stage not in self.stages:
            run.define_metric(f"{stage}/epoch", hidden=True)
            run.define_metric(f"{stage}/*", step_metric=f"{stage}/epoch")
            self.stages.add(stage)
        own = {f"{stage}/{name}": value for name, value in values.items()}
        run.log({f"{stage}/epoch": epoch, f"{stage}/step": step, **own}, step=self._epochs)
        self._epochs += 1

    def finish(self, result: dict[str, Any], run_folder: Path) -> None:
        """Cost and scores into the summary, the student as an artifact."""
        import wandb

        self.run.summary.update(figures(result))
        name, config = f"student-{self.run.id}", self.options["config"]
        with files_in(self.path):
            artifact = wandb.Artifact(name, "model", metadata=config)
            for file in sorted((run_folder / "student").iterdir()):
                artifact.add_file(str(file))
            self.run.log_artifact(artifact)
        stop(self.run)
        self._run = None


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: SummaryWriter | None = None

    @property
    def writer(self) -> "SummaryWriter":
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder))
        return self._writer

    def log(self, stage: str, epoch: int, step: int, values: dict[str, float]) -> None:
        """A stage's figures over its own epochs."""
        for name, value in values.items():
            self.writer.add_scalar(f"{stage}/{name}", value, epoch)
        self.writer.flush()

    def finish(self, result: dict[str, Any], run_folder: Path) -> None:
        """Cost and scores, one value each."""
        for name, value in figures(result).items():
            self.writer.add_scalar(name, value, 0)
        self.writer.close()


def figures(result: dict[str, Any]) -> dict[str, float]:
    """The numbers of a result, flat: "student/accuracy", "cost/student/macs", "stem/best", ….

    Args:
        result: content of result.json.
    """
    found = {name: result[name] for name in ("seconds", "images_seen")}
    for network, cost in result["cost"].items():
        if isinstance(cost, dict):  # beside the name of the device
            found |= {f"cost/{network}/{name}": value for name, value in cost.items()}
            scores = result[f"{network}_metrics"] or {}
            found |= {f"{network}/{name}": value for name, value in scores.items()}
    for stage in result["stages"]:
        found[f"{stage['name']}/best"] = stage["best"]["value"]
        grafts = stage.get("graft") or {}
        found |= {f"{stage['name']}/graft/{name}": value for name, value in grafts.items()}
    return found


def _epochs_before(path: Path) -> int:
    """How many epochs metrics.csv tells of, without the last one, which is just being logged."""
    if not path.is_file():
        return 0
    with path.open(newline="", encoding="utf-8") as file:
        return max(len({(row["stage"], row["epoch"]) for row in csv.DictReader(file)}) - 1, 0)
