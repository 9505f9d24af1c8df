"""Where the figures of a run go beside metrics.csv."""

from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Takes the figures of one run; only the first of several processes calls it."""

    def log(self, stage: str, epoch: int, step: int, values: dict[str, float]) -> None:
        """Take the figures of one epoch of a stage, as metrics.csv has them."""

    def finish(self, result: dict[str, Any], run_folder: Path) -> None:
        """Take the result of the finished run, whose student lies in its folder."""
