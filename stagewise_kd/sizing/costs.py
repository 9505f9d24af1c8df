"""What each alternative of a block costs, in a table that adds up to the whole network's cost."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stagewise_kd.networks.cost import macs, params
from stagewise_kd.networks.modes import forwards, modes_kept
from stagewise_kd.sizing.alternatives import KEEP, Choices
from stagewise_kd.sizing.calls import device_of, judging
from stagewise_kd.sizing.target import Kind
from stagewise_kd.system.processes import device_name

REPETITIONS = 20
WARM_UP = 3


@dataclass(frozen=True)
class Costs:
    """Costs of one kind for one image: multiply-adds, parameters, or milliseconds.

    Args:
        kind: of cost.
        whole: of the network as it is.
        blocks: by path of a block and name of an alternative.
        factor: by which latencies of the parts were multiplied, so that they add up to the whole.
        device: on which latencies were measured.
    """

    kind: Kind
    whole: float
    blocks: dict[str, dict[str, float]]
    factor: float = 1.0
    device: str = ""

    @property
    def rest(self) -> float:
        """Of all that is in no block."""
        return self.whole - sum(found[KEEP] for found in self.blocks.values())

    def total(self, chosen: Mapping[str, str]) -> float:
        """Of the network with an alternative for each block."""
        return self.rest + sum(found[chosen[path]] for path, found in self.blocks.items())


def costs_of(kind: Kind, model: nn.Module, space: Sequence[Choices], image: Tensor) -> Costs:
    """The costs of all alternatives.

    Args:
        kind: of cost.
        model: the whole network; its modes stay as they are.
        space: its blocks and their alternatives.
        image: one, as the model takes it, (1, C, H, W).
    """
    with modes_kept(model), torch.no_grad():
        model.eval()
        image = image.to(device_of(model))
        if kind == "latency":
            return _latencies(model, space, image)
        return {"macs": _macs, "params": _params}[kind](model, space, image)


def _params(model: nn.Module, space: Sequence[Choices], image: Tensor) -> Costs:
    blocks = {
        choices.path: {
            name: float(params(one.module)) for name, one in choices.alternatives.items()
        }
        for choices in space
    }
    return Costs("params", float(params(model)), blocks)


def _macs(model: nn.Module, space: Sequence[Choices], image: Tensor) -> Costs:
    blocks = {
        choices.path: {
            name: macs(partial(choices.call.again, judging(one.module))) / len(choices.call.output)
            for name, one in choices.alternatives.items()
        }
        for choices in space
    }
    return Costs("macs", macs(partial(model, image)), blocks)


def _latencies(model: nn.Module, space: Sequence[Choices], image: Tensor) -> Costs:
    """Each alternative in its place, in turns: a busy machine slows all of them alike.

    In one run every block has the alternative of one name, so that all take few runs. On a busy
    machine the whole is interrupted more often than its parts: they are multiplied to add up to it.
    """
    names = dict.fromkeys(name for choices in space for name in choices.alternatives)
    took: dict[str, list[list[float]]] = {name: [] for name in names}
    whole: list[float] = []
    for _ in range(WARM_UP + REPETITIONS):
        whole.append(milliseconds(partial(model, image), image.device))
        for name in names:
            took[name].append(_parts(model, space, name, image))
    usual = {name: np.median(rounds[WARM_UP:], axis=0) for name, rounds in took.items()}
    median = statistics.median(whole[WARM_UP:])
    factor = median / float(usual[KEEP].sum())
    blocks = {
        c.path: {name: factor * float(usual[name][2 * i + 1]) for name in c.alternatives}
        for i, c in enumerate(space)
    }
    return Costs("latency", median, blocks, factor, device_name(image.device))


def _parts(model: nn.Module, space: Sequence[Choices], name: str, image: Tensor) -> list[float]:
    """Milliseconds in turn before a block, in it, and behind the last one.

    Every block has the alternative of a name, where there is one.
    """
    marks: list[float] = []

    def timed(run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        marks.append(_clock(image.device))
        output = run(*args, **kwargs)
        marks.append(_clock(image.device))
        return output

    chosen = {c.path: c.alternatives.get(name, c.alternatives[KEEP]).module for c in space}
    # taken before blocks get another `forward`, which "keep" would find otherwise
    runs = {path: partial(timed, judging(module).forward) for path, module in chosen.items()}
    start = _clock(image.device)
    with forwards({model.get_submodule(path): run for path, run in runs.items()}):
        model(image)
    return [1000 * took for took in np.diff([start, *marks, _clock(image.device)])]


def milliseconds(run: Callable[[], Any], device: torch.device) -> float:
    """How long a function takes, with all that it leaves the device to do."""
    start = _clock(device)
    run()
    return 1000 * (_clock(device) - start)


def _clock(device: torch.device) -> float:
    """Seconds, once a GPU has done all that it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
