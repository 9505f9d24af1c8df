"""Keeps the best and the last epoch of a stage, and its figures."""

import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from stagewise_kd.data.pace import Pace
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import write_whole
from stagewise_kd.system.processes import from_first
from stagewise_kd.system.run_folder import RunFolder
from stagewise_kd.system.weights import write_tensors
from stagewise_kd.training.stage_module import StageModule
from stagewise_kd.training.tracker import Tracker

BEST = "best.safetensors"
LAST = "last.ckpt"
TRAINING_PER_SAVING = 20  # seconds of training for each of saving,
UNSAVED = 300  # but no more than these
KEPT = ("best", "seconds", "waited", "images_seen", "_best_tensors")


class Recorder(Checkpoint):
    """After each round writes metrics.csv, then last.ckpt, which holds the best one so far too.

    A round is called by its last epoch. Where rounds are so short that saving would slow them, only
    some are saved. A run that is killed repeats what was not saved, and writes the same again.
    """

    def __init__(
        self, run: RunFolder, folder: Path, pace: Pace, tracker: Tracker | None = None
    ) -> None:
        self.run = run
        self.folder = folder
        self.pace = pace
        self.tracker = tracker
        self.best: dict[str, Any] = {}
        self.seconds = 0.0
        self.waited = 0.0
        self.images_seen = 0
        self._best_tensors: dict[str, Tensor] = {}
        self._since = self._idle_since = 0.0
        self._saved_at = self._saving = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {name: getattr(self, name) for name in KEPT}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what the interrupted run had."""
        for name in KEPT:
            setattr(self, name, state_dict[name])

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """The loader is about to be asked for the first batch, of a last round perhaps few."""
        trainer.val_check_batch = self.pace.length(trainer.current_epoch)
        self._idle_since = time.perf_counter()

    def on_train_batch_start(self, *args: Any) -> None:
        """Count how long the loader took."""
        self.waited += time.perf_counter() - self._idle_since

    def on_train_batch_end(self, *args: Any) -> None:
        """The loader is about to be asked for the next batch."""
        self._idle_since = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Record the epoch."""
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        epoch, stage = self.pace.span(trainer.current_epoch)[-1], pl_module.stage
        if (name := f"val/{stage.monitor.name}") not in figures:
            known = ", ".join(sorted(key[4:] for key in figures if key.startswith("val/")))
            raise UserError(f"stage {stage.name!r} monitors {name[4:]!r}; there are {known}")
        value = figures[name]
        if not abs(value) < float("inf") or not abs(figures["train/loss"]) < float("inf"):
            raise UserError(
                f"stage {stage.name!r}: the loss of epoch {epoch + 1} is not a finite number; "
                "try a lower lr="
            )
        self._count(trainer)
        self.run.add_metrics(stage.name, epoch, trainer.global_step, figures)
        if self.tracker and trainer.is_global_zero:
            self.tracker.log(stage.name, epoch, trainer.global_step, figures)
        few = len(trainer.val_dataloaders.dataset) < stage.monitor.least  # type: ignore[union-attr]
        if few or stage.monitor.better(value, self.best.get("value")):
            self.best = {"epoch": epoch, "monitor": stage.monitor.name, "value": value}
            self._best_tensors = pl_module.trained_tensors()
        if from_first(self._due(trainer)):
            self._save(trainer)

    def _due(self, trainer: lightning.Trainer) -> bool:
        """Whether the stage ends, or has trained for long against what saving takes."""
        ends = trainer.current_epoch + 1 == trainer.max_epochs
        unsaved = time.perf_counter() - self._saved_at
        return ends or unsaved >= min(TRAINING_PER_SAVING * self._saving, UNSAVED)

    def _save(self, trainer: lightning.Trainer) -> None:
        start = time.perf_counter()
        if trainer.is_global_zero:
            write_whole(self.folder / LAST, trainer.save_checkpoint)
        else:  # writes nothing, but has to take part
            trainer.save_checkpoint(self.folder / LAST)
        self._saved_at = time.perf_counter()
        self._saving = self._saved_at - start

    def _count(self, trainer: lightning.Trainer) -> None:
        now = time.perf_counter()
        self.seconds += now - self._since
        self._since = now
        loader: Any = trainer.train_dataloader
        steps = self.pace.length(trainer.current_epoch)
        self.images_seen += steps * loader.batch_size * trainer.world_size

    def write_best(self, module: StageModule) -> None:
        """Write the whole student as of the stage's best epoch, and the stage's adapters."""
        write_best(self.folder / BEST, module.student, self._best_tensors)


def write_best(path: Path, student: BlockNet, trained: dict[str, Tensor]) -> None:
    """Write a whole student with what a stage has trained.

    Args:
        path: the file.
        student: gives all that the stage does not train.
        trained: under "model." and "adapters.".
    """
    model = {f"model.{k}": v for k, v in student.model.state_dict().items()}
    write_tensors(path, model | trained)
