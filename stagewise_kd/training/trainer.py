"""Lightning's Trainer with the options of a run, checked before anything is written."""

import logging
import warnings
from typing import Any

import lightning
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException

from stagewise_kd.methods.plan import Stage
from stagewise_kd.system.errors import UserError
from stagewise_kd.training.compiling import CompiledBlocks
from stagewise_kd.training.progress import StageProgress
from stagewise_kd.training.recorder import Recorder
from stagewise_kd.training.setup import Fitting

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it praises other products

OWN: dict[str, Any] = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "32")


def make_trainer(
    stage: Stage, fitting: Fitting, recorder: Recorder, label: str
) -> lightning.Trainer:
    """The trainer of one stage; its bar says `label`."""
    compiled = [CompiledBlocks()] if fitting.compile else []
    callbacks = [recorder, StageProgress(label), *compiled]
    own = {**OWN, "max_epochs": stage.epochs, "callbacks": callbacks}
    return lightning.Trainer(
        **_environment() | fitting.trainer | own | {"precision": fitting.precision}
    )


def _environment() -> dict[str, Any]:
    """The processes are ours, or torchrun's: Lightning must not count the tasks of a SLURM job."""
    return {} if TorchElasticEnvironment.detect() else {"plugins": [LightningEnvironment()]}


def check_trainer(options: dict[str, Any]) -> None:
    """Check the options of the trainer before anything is written.

    Raises:
        UserError: Lightning does not take them, or they are the engine's own.
    """
    if taken := sorted({*OWN, "max_epochs", "callbacks"} & options.keys()):
        length = "; for the length, set epochs=N" if taken[0] == "max_epochs" else ""
        raise UserError(f"trainer.{taken[0]}: the run sets it itself{length}")
    asked = options["precision"]
    if str(asked) not in PRECISIONS:
        raise UserError(f"trainer.precision={asked}: give {', '.join(PRECISIONS)}")
    if options.get("check_val_every_n_epoch", 1) != 1 or options.get("limit_val_batches", 1) == 0:
        raise UserError(
            "trainer: the best epoch is chosen by validating every one; leave out "
            "check_val_every_n_epoch and limit_val_batches=0"
        )
    precision = "32-true" if asked == "auto" else asked
    try:
        lightning.Trainer(**_environment() | OWN | options | {"precision": precision})
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise UserError(f"trainer: Lightning's Trainer does not take that: {error}") from None


def ignore_chatter() -> None:
    """Filter Lightning's warnings of what a stage does on purpose."""
    for message in (".*many workers.*", ".*in eval mode at the start.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message)
