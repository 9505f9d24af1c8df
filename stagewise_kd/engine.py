"""Runs a plan, stage by stage, from wherever it was left."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stagewise_kd.blocks import IMAGE, LOGITS, BlockNet
from stagewise_kd.distributed import barrier, rank
from stagewise_kd.files import write_json
from stagewise_kd.loaders import Data, eval_loader, train_loader, val_loader
from stagewise_kd.plan import Plan, Stage
from stagewise_kd.progress import StageProgress, console
from stagewise_kd.recorder import BEST, LAST, Recorder
from stagewise_kd.run_folder import RunFolder, read_json
from stagewise_kd.task import Task
from stagewise_kd.trackers import Tracker
from stagewise_kd.training import (
    Optimizer,
    Scheduler,
    StageModule,
    autocast,
    fastest_precision,
    unit_images,
)


@dataclass(frozen=True)
class Fitting:
    """How every stage is trained."""

    optimizer: Optimizer
    scheduler: Scheduler | None = None
    batch_size: int = 64
    seed: int = 0
    workers: int = 0
    graft: bool = True
    trainer: dict[str, Any] = field(default_factory=dict)
    tracker: Tracker | None = None

    @property
    def precision(self) -> str:
        """Lightning's name of the precision; "auto" is what the device is fastest at."""
        asked = str(self.trainer.get("precision", "32-true"))
        return fastest_precision(self.device) if asked == "auto" else asked

    @property
    def device(self) -> torch.device:
        """Where the networks run outside of Lightning, which moves the student back to the CPU."""
        if self.trainer.get("accelerator") == "cpu":
            return torch.device("cpu")
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


@dataclass(frozen=True)
class Bench:
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


def run_plan(
    plan: Plan, adapters: dict[str, nn.ModuleDict], bench: Bench, run: RunFolder
) -> list[dict[str, Any]]:
    """Train all stages that are not done yet; each starts from the best epoch of the one before.

    Args:
        plan: the stages.
        adapters: of each stage, from `check_plan`.
        bench: networks, task, data; the student is trained in place.
        run: where weights and figures are kept.

    Returns:
        One record a stage: name, epochs, best, seconds, images_seen, graft.
    """
    records: list[dict[str, Any]] = []
    grafted: dict[str, tuple[str, nn.Module]] = {}
    for index, stage in enumerate(plan):
        folder = run.stage(index, stage.name)
        record = read_json(folder / "stage.json")
        if record is None:
            record = _train_stage(stage, adapters[stage.name], bench, run, folder, len(plan))
        restore_best(folder / BEST, bench.student, adapters[stage.name])
        if stage.graftable and bench.teacher is not None:
            grafted |= _pieces(stage, adapters[stage.name].to(bench.device))
            if bench.fitting.graft and "graft" not in record:
                record["graft"] = graft_score(grafted, bench)
        _finish_stage(record, run, folder, index, len(plan))
        records.append(record)
    return records


def restore_best(path: Path, student: BlockNet, adapters: nn.ModuleDict) -> None:
    """Load the best epoch of a stage into the student and the stage's adapters."""
    found = load_file(path)
    for module, prefix in ((student.model, "model."), (adapters, "adapters.")):
        part = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
        module.load_state_dict(part)


def score(predict: Callable[[Tensor], Tensor], data: Any, bench: Bench) -> dict[str, float]:
    """The task's metrics of `predict`: images in [0, 1] to logits, over a whole split."""
    device = bench.device
    metrics = bench.task.metrics().to(device)
    loader = eval_loader(data, 4 * bench.fitting.batch_size, bench.fitting.workers)
    with torch.inference_mode(), autocast(bench.fitting.precision, device):
        for images, labels in loader:
            logits = predict(unit_images(images.to(device, non_blocking=True)))
            metrics.update(logits.float(), labels.to(device))
    return {name: round(value.item(), 6) for name, value in metrics.compute().items()}


def graft_score(grafted: dict[str, tuple[str, nn.Module]], bench: Bench) -> dict[str, float]:
    """Metrics on the validation split of the student's blocks so far inside the teacher.

    Args:
        grafted: for each of the teacher's features the student's that stands for it, and the
            adapter between them.
        bench: networks, task, data.
    """
    assert bench.teacher is not None
    student, teacher = bench.student.to(bench.device).eval(), bench.teacher.to(bench.device)
    rest = teacher.needed(grafted, {LOGITS})
    read = {name for block in rest for name in teacher.blocks[block].reads}
    used = {name: piece for name, piece in grafted.items() if name in read}

    def predict(images: Tensor) -> Tensor:
        features = student.features({IMAGE: images}, {name for name, _ in used.values()})
        given = {name: adapter(features[ours]) for name, (ours, adapter) in used.items()}
        return teacher.features({IMAGE: images} | given, {LOGITS})[LOGITS]

    return score(predict, bench.data.val, bench)


def _pieces(stage: Stage, adapters: nn.ModuleDict) -> dict[str, tuple[str, nn.Module]]:
    return {
        str(term.teacher): (
            term.student,
            adapters[term.name].eval() if term.name in adapters else nn.Identity(),
        )
        for term in stage.terms
    }


def _train_stage(
    stage: Stage, adapters: nn.ModuleDict, bench: Bench, run: RunFolder, folder: Path, count: int
) -> dict[str, Any]:
    fitting, data = bench.fitting, bench.data
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    run.set_stage(stage.name, "running")
    barrier()
    module = StageModule(
        stage,
        bench.student,
        bench.teacher,
        adapters,
        bench.task,
        fitting.optimizer,
        fitting.scheduler,
        fitting.seed,
    )
    recorder = Recorder(run, folder, fitting.tracker)
    number = int(folder.name.split("-")[0]) + 1
    trainer = _trainer(stage, fitting, recorder, f"stage {number}/{count} {stage.name}")
    last = folder / LAST
    run.drop_metrics(stage.name, _next_epoch(last))
    images = data.train if stage.sees_labels or data.images is None else data.images
    loaders = (
        train_loader(images, fitting.batch_size, fitting.seed, fitting.workers),
        val_loader(data.val, 4 * fitting.batch_size, fitting.workers),
    )
    with warnings.catch_warnings():
        _ignore_chatter()
        trainer.fit(module, *loaders, ckpt_path=str(last) if last.exists() else None)
    return {
        "name": stage.name,
        "epochs": stage.epochs,
        "best": recorder.best,
        "seconds": round(recorder.seconds, 2),
        "images_seen": recorder.images_seen,
    }


def _trainer(stage: Stage, fitting: Fitting, recorder: Recorder, label: str) -> lightning.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return lightning.Trainer(
        max_epochs=stage.epochs,
        callbacks=[recorder, StageProgress(label)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **fitting.trainer | {"precision": fitting.precision},
    )


def _ignore_chatter() -> None:
    for message in (".*many workers.*", ".*in eval mode at the start.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message)


def _next_epoch(last: Path) -> int:
    """The epoch that a run resumed from this checkpoint starts with."""
    if not last.exists():
        return 0
    return int(torch.load(last, map_location="cpu", weights_only=True)["epoch"]) + 1


def _finish_stage(
    record: dict[str, Any], run: RunFolder, folder: Path, index: int, count: int
) -> None:
    """Write the stage's record, drop what only a running stage needs, and say how it went."""
    if rank() == 0 and (folder / LAST).exists():
        write_json(folder / "stage.json", record)
        (folder / LAST).unlink()
        run.set_stage(record["name"], "done")
        best = record["best"]
        grafts = list(record.get("graft", {}).items())[:1]
        graft = "".join(f"  graft {name} {value:.4f}" for name, value in grafts)
        console.print(
            f"stage {index + 1}/{count} {record['name']}: val {best['monitor']} "
            f"{best['value']:.4f} (epoch {best['epoch'] + 1}/{record['epochs']}){graft}  "
            f"{record['seconds']:.0f} s",
            soft_wrap=True,
        )
    barrier()
