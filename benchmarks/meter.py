"""Seconds and memory of the stages of a run."""

import ctypes
import gc
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Spent:
    """What one stage took: seconds, bytes of memory at the peak, bytes of the cache."""

    seconds: float
    memory: int = 0
    cache: int = 0


class Meter:
    """A stop watch with one lap an epoch; as the tracker of an engine's run it sees every epoch."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, list[float]] = {}
        self._memory: dict[str, int] = {}
        self._base = _settle(device)
        self.start()

    def start(self) -> None:
        """The first epoch begins: what was done before is not counted."""
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        """One epoch of a stage is over."""
        self._seconds.setdefault(stage, []).append(self._elapsed())
        self._memory[stage] = max(self._memory.get(stage, 0), self.growth())
        self.start()

    def end(self, stage: str) -> None:
        """The run is over: count what came after its last epoch as set-up of the last stage."""
        self._seconds[stage][0] += self._elapsed()

    def log(self, stage: str, epoch: int, step: int, values: dict[str, float]) -> None:
        """The engine's call after each epoch."""
        self.lap(stage)

    def finish(self, result: dict[str, Any], run_folder: Path) -> None:
        """The engine's call at the end of a whole run."""

    def spent(self, epochs: int | None = None) -> dict[str, Spent]:
        """What each stage takes in so many epochs; None: in those that it ran.

        Of several laps the first holds what is done once a stage, the others are plain epochs; one
        lap alone stands for all epochs.
        """
        totals = {}
        for stage, laps in self._seconds.items():
            rest = laps[1:] or laps
            more = len(laps) if epochs is None else epochs
            seconds = laps[0] + (more - 1) * sum(rest) / len(rest)
            totals[stage] = Spent(seconds, self._memory[stage])
        return totals

    def growth(self) -> int:
        """Bytes by which memory has grown at the highest, since the last call."""
        grown = peak_memory(self._device) - self._base
        reset_peak(self._device)
        return grown

    def _elapsed(self) -> float:
        synchronize(self._device)
        return time.perf_counter() - self._since


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak(device: torch.device) -> None:
    """Measure the peak of memory from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):  # Linux only
            (PROCESS / "clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Highest number of bytes since `reset_peak`: allocated on a GPU, else resident; 0: unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0


def _settle(device: torch.device) -> int:
    """Give back what earlier runs left; the bytes that a growth is counted from, 0 on a GPU."""
    gc.collect()
    if device.type == "cuda":
        reset_peak(device)
        return 0
    with suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    reset_peak(device)
    return peak_memory(device)
