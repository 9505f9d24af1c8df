"""What each alternative of a block costs, in a table that adds up to the whole network's cost."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stagewise_kd.networks.tracing import modes_kept
from stagewise_kd.shrinking.alternatives import KEEP, Choices
from stagewise_kd.shrinking.calls import forwards

Kind = Literal["macs", "params", "latency"]
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
    """

    kind: Kind
    whole: float
    blocks: dict[str, dict[str, float]]
    factor: float = 1.0

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
        if kind == "latency":
            return _latencies(model, space, image)
        return {"macs": _macs, "params": _params}[kind](model, space, image)


def _params(model: nn.Module, space: Sequence[Choices], image: Tensor) -> Costs:
    blocks = {
        choices.path: {name: _count(one.module) for name, one in choices.alternatives.items()}
        for choices in space
    }
    return Costs("params", _count(model), blocks)


def _count(module: nn.Module) -> float:
    return float(sum(parameter.numel() for parameter in module.parameters()))


def _macs(model: nn.Module, space: Sequence[Choices], image: Tensor) -> Costs:
    blocks = {
        choices.path: {
            name: macs(partial(choices.call.again, one.module.eval())) / len(choices.call.output)
            for name, one in choices.alternatives.items()
        }
        for choices in space
    }
    return Costs("macs", macs(partial(model, image)), blocks)


def macs(run: Callable[[], Any]) -> float:
    """Multiply-adds of convolutions and linear layers in what a function computes."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2


def _latencies(model: nn.Module, space: Sequence[Choices], image: Tensor) -> Costs:
    """Each alternative in its place, in turns: a busy machine slows all of them alike.

    In one run every block has the alternative of one name, so that all take few runs.
    """
    modules = {choices.path: model.get_submodule(choices.path) for choices in space}
    names = dict.fromkeys(name for choices in space for name in choices.alternatives)
    took: dict[str, dict[str, list[float]]] = {path: {n: [] for n in names} for path in modules}
    whole: list[float] = []
    parts: list[float] = []
    for _ in range(REPETITIONS + WARM_UP):
        whole.append(milliseconds(partial(model, image)))
        for name in names:
            timed = {
                path: partial(_timed, took[path][name], _run(choices, name))
                for path, choices in zip(modules, space, strict=True)
            }
            with forwards(modules, timed):
                total = milliseconds(partial(model, image))
            if name == KEEP:
                parts.append(total)
    median = {c.path: {name: _median(took[c.path][name]) for name in c.alternatives} for c in space}
    factor = _median(whole) / _median(parts)  # what the clock itself takes
    blocks = {p: {n: factor * ms for n, ms in found.items()} for p, found in median.items()}
    return Costs("latency", _median(whole), blocks, factor)


def _run(choices: Choices, name: str) -> Callable[..., Any]:
    """What computes an alternative; the block itself may have got another `forward` meanwhile."""
    found = choices.alternatives
    return found.get(name, found[KEEP]).module.eval().forward


def _timed(took: list[float], run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Compute something, and note how long it took."""
    found: list[Any] = []
    took.append(milliseconds(lambda: found.append(run(*args, **kwargs))))
    return found[0]


def milliseconds(run: Callable[[], Any]) -> float:
    """How long a function takes, with all that it leaves a GPU to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def _median(took: Sequence[float]) -> float:
    return statistics.median(took[-REPETITIONS:])
