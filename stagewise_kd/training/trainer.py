"""Lightning's Trainer with the options of a run, checked before anything is written."""

import io
import logging
import warnings
from math import ceil
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import EarlyStopping

from stagewise_kd.data.pace import Pace, paced
from stagewise_kd.data.sampling import share
from stagewise_kd.methods.plan import Monitor, Stage
from stagewise_kd.system.errors import UserError, first_line, raise_faults
from stagewise_kd.training.compiling import CompiledBlocks
from stagewise_kd.training.progress import StageProgress
from stagewise_kd.training.recorder import Recorder
from stagewise_kd.training.setup import Fitting, Setup

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it praises other products

OWN: dict[str, Any] = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "32")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")
LENGTH = "for the length, set epochs=N or steps=N"
TAKEN = {
    **dict.fromkeys(OWN, ""),
    **dict.fromkeys(("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time"), LENGTH),
    "callbacks": "",
    "plugins": "",
    "enable_checkpointing": "",
    "fast_dev_run": "for a quick look, set epochs=1 and a small data.fraction",
    "barebones": "",
    "overfit_batches": "for fewer images, set data.fraction",
    "val_check_interval": "stages of many short epochs are validated 20 times, others every epoch",
    "sync_batchnorm": "blocks hold their BatchNorm; a batch_size is that of one process",
    "num_nodes": "for several machines, run a study (docs/scaling.md)",
}


class Patience(EarlyStopping):
    """Ends a stage after so many rounds in a row that were no better, resumed as straight.

    Where there are fewer images than the monitor needs nothing ends it: that would be chance.
    """

    def __init__(self, monitor: Monitor, patience: int) -> None:
        super().__init__(
            f"val/{monitor.name}",
            patience=patience,
            mode=monitor.mode,
            strict=False,  # the recorder tells of a figure that there is not
            check_on_train_epoch_end=False,
        )
        self.least = monitor.least

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Count the round."""
        if len(trainer.val_dataloaders.dataset) >= self.least:
            super().on_validation_end(trainer, pl_module)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Train no further where the stage had ended before the run was interrupted."""
        trainer.should_stop = self.ended

    @property
    def ended(self) -> bool:
        """Whether it has ended the stage."""
        return self.wait_count >= self.patience


def make_trainer(
    fitting: Fitting, recorder: Recorder, label: str, patience: Patience | None = None
) -> lightning.Trainer:
    """The trainer of one stage, to whose rounds Lightning says epochs; its bar says `label`."""
    more = [CompiledBlocks()] if fitting.compile else []
    callbacks = [
        recorder,
        StageProgress(label, recorder.pace),
        *more,
        *([patience] * bool(patience)),
    ]
    own = {**OWN, "max_epochs": recorder.pace.rounds, "callbacks": callbacks}
    own |= {"limit_train_batches": 1.0}  # of the option the pace has been told
    # a tensor that a network keeps for later could not learn after inference mode
    usual = _plugins() | {"inference_mode": False}
    return lightning.Trainer(**usual | fitting.trainer | own | {"precision": fitting.precision})


class PlainFiles(TorchCheckpointIO):
    """Writes checkpoints where they shall lie; Lightning's own way goes through TMPDIR."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint from memory: of a full disk torch would make an error of its own."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).write_bytes(content.getbuffer())


def _plugins() -> dict[str, Any]:
    """The processes are ours, or torchrun's: Lightning must not count the tasks of a SLURM job."""
    environment = [] if TorchElasticEnvironment.detect() else [LightningEnvironment()]
    return {"plugins": [PlainFiles(), *environment]}


def check_trainer(options: dict[str, Any]) -> None:
    """Check the options of the trainer before anything is written.

    Raises:
        UserError: lists those that Lightning does not take, or that are the engine's own.
    """
    faults = [
        f"trainer.{name}: the run sets it itself" + f"; {TAKEN[name]}" * bool(TAKEN[name])
        for name in options
        if name in TAKEN
    ]
    asked = options["precision"]
    if str(asked) not in PRECISIONS:
        faults.append(f"trainer.precision={asked}: give {', '.join(PRECISIONS)}")
    if isinstance(strategy := options.get("strategy", "auto"), str) and strategy not in STRATEGIES:
        faults.append(f"trainer.strategy={strategy}: give {' or '.join(STRATEGIES[:2])}")
    if options.get("check_val_every_n_epoch", 1) != 1:
        faults.append(
            "trainer.check_val_every_n_epoch: the best epoch is chosen by validating every one"
        )
    for name in ("limit_train_batches", "limit_val_batches"):
        if options.get(name, 1) == 0:
            faults.append(f"trainer.{name}=0: every epoch trains, and every one is validated")
    steps, clip = options.get("accumulate_grad_batches", 1), options.get("gradient_clip_val")
    if not isinstance(steps, int) or steps < 1:
        faults.append(f"trainer.accumulate_grad_batches={steps}: give a whole number from 1 up")
    if isinstance(clip, int | float) and clip < 0:  # which would turn the gradients round
        faults.append(f"trainer.gradient_clip_val={clip}: give a number from 0 up")
    raise_faults("bad settings", faults)
    precision = "32-true" if asked == "auto" else asked
    try:
        lightning.Trainer(**_plugins() | OWN | options | {"precision": precision})
    except Exception as error:  # nearly any, by what is not installed
        raise UserError(
            f"trainer: Lightning's Trainer does not take that: {first_line(error)}"
        ) from None


def pace_of(stage: Stage, images: int, val: int, fitting: Fitting) -> Pace:
    """The steps of a stage in each process, and when it is validated.

    Args:
        stage: tells how long it is.
        images: that it trains on.
        val: that it is validated on.
        fitting: batch size, and options of the trainer.
    """
    each = max(1, share(images) // fitting.batch_size)
    limit = fitting.trainer.get("limit_train_batches", 1.0)
    each = min(each, limit) if isinstance(limit, int) else int(each * limit)
    at_once = int(fitting.trainer.get("accumulate_grad_batches", 1))
    steps = stage.epochs * each if stage.steps is None else stage.steps * at_once
    return paced(steps, each, images, val)


def check_limits(setup: Setup) -> None:
    """Check that a share of the batches is one batch at least.

    Args:
        setup: data, and options of the trainer.

    Raises:
        UserError: it is less, so that Lightning would leave them all out.
    """
    options, size, data = setup.fitting.trainer, setup.fitting.batch_size, setup.data
    train, val = len(data.train), len(data.val)  # type: ignore[arg-type]
    batches = {"train": max(1, train // size), "val": ceil(val / setup.at_once)}
    faults = [
        f"trainer.limit_{split}_batches={share}: is less than one of {count} "
        f"batch{'es' * (count > 1)}; give a whole number of batches"
        for split, count in batches.items()
        if isinstance(share := options.get(f"limit_{split}_batches"), float) and share * count < 1
    ]
    raise_faults("bad settings", faults)


def ignore_chatter() -> None:
    """Filter Lightning's warnings of what a stage does on purpose."""
    eval_mode, ends = ".*in eval mode at the start.*", ".*ended before the epoch ended.*"
    for message in (".*many workers.*", eval_mode, ends, ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message)
