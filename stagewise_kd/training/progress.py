"""One progress bar a stage, that says which stage of how many."""

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from stagewise_kd.data.pace import Pace
from stagewise_kd.system.console import console


class StageProgress(Callback):
    """A bar over all steps of a stage; where the output is no terminal, nothing."""

    def __init__(self, label: str, pace: Pace) -> None:
        self.label = label
        self.pace = pace
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
        self.bar = Progress(
            *columns, TimeRemainingColumn(), console=console, transient=True, disable=self._quiet()
        )

    @staticmethod
    def _quiet() -> bool:
        return not console.is_terminal

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Show the bar, as far along as the resumed run is."""
        done = sum(map(self.pace.length, range(trainer.current_epoch)))
        self.bar.start()
        self._row = self.bar.add_task(self.label, total=self.pace.steps, completed=done, note="")

    def on_train_batch_end(self, *args: Any) -> None:
        """One step on."""
        self.bar.advance(self._row)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Say what the epoch gave."""
        name = pl_module.stage.monitor.name
        value = float(trainer.callback_metrics[f"val/{name}"])
        done = f"epoch {self.pace.span(trainer.current_epoch).stop}/{self.pace.epochs}"
        self.bar.update(self._row, note=f"{done}  val {name} {value:.4f}")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the bar away."""
        self.bar.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Take the bar away."""
        self.bar.stop()
