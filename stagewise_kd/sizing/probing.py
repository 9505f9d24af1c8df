"""Where the channels of a layer arrive inside a block.

Every other channel of what the layer gives is made NaN, and it is looked where NaN arrives. What a
block computes between its layers need not be known or traced.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stagewise_kd.sizing.calls import Call
from stagewise_kd.sizing.layers import apart, mixes

INPUT = ""  # in place of a layer's name


@dataclass
class Reached:
    """Where the channels of a layer arrive, by name the places that are NaN.

    Args:
        unit: so many neighbouring channels were made NaN, then as many left.
        reads: layers that mix them.
        passes: layers that keep them apart.
        leaks: whether they leave the block, or reach something that cannot be narrowed.
    """

    unit: int = 1
    reads: dict[str, Tensor] = field(default_factory=dict)
    passes: dict[str, Tensor] = field(default_factory=dict)
    leaks: bool = False

    def aligned(self, count: int) -> bool:
        """Whether the channels of a layer, so many, arrive where they should, nowhere else."""
        expected = odd(count, self.unit)
        places = [*self.reads.values(), *self.passes.values()]
        alike = all(len(found) == count and found.cpu().equal(expected) for found in places)
        whole = count % self.unit == 0 and count > self.unit
        return bool(self.reads) and not self.leaks and alike and whole


def odd(count: int, unit: int) -> Tensor:
    """Which channels are made NaN: every other unit of them."""
    return torch.arange(count) // unit % 2 == 1


@torch.no_grad()
def probe(block: nn.Module, call: Call, maker: str, unit: int = 1) -> Reached:
    """Make every other unit of a layer's channels NaN, or all that the block takes.

    Args:
        block: in eval mode.
        call: what it is called with.
        maker: name of the layer; INPUT: what the block takes.
        unit: of channels.
    """
    reached, hooks = Reached(unit), []
    for name, layer in block.named_modules():
        if mixes(layer):
            hooks.append(layer.register_forward_pre_hook(partial(_read, reached, name)))
        elif apart(layer):
            hooks.append(layer.register_forward_hook(partial(_pass, reached, name)))
        elif any(own.numel() > 1 for own in layer.parameters(recurse=False)):
            hooks.append(layer.register_forward_hook(partial(_end, reached)))
        if name == maker != INPUT:
            hooks.append(layer.register_forward_hook(partial(_poison, unit)))
    given = call if maker != INPUT else call.mapped(lambda x: torch.full_like(x, torch.nan))
    try:
        output = given.again(block)
    finally:
        for hook in hooks:
            hook.remove()
    reached.leaks = reached.leaks or bool(output.isnan().any())
    return reached


def _poison(unit: int, layer: nn.Module, args: Any, output: Tensor) -> Tensor:
    poisoned = output.clone()
    channels = poisoned.movedim(_side(layer), 0)
    channels[odd(len(channels), unit).to(channels.device)] = torch.nan
    return poisoned


def _read(reached: Reached, name: str, layer: nn.Module, args: Any) -> Any:
    (x, *rest) = args
    if x.isnan().any():
        reached.reads[name] = _nan(layer, x)
    return (x.nan_to_num(), *rest)


def _pass(reached: Reached, name: str, layer: nn.Module, args: Any, output: Tensor) -> None:
    if output.isnan().any():
        reached.passes[name] = _nan(layer, output)


def _end(reached: Reached, layer: nn.Module, args: Any, output: Any) -> None:
    given = [x for x in args if isinstance(x, Tensor)]
    reached.leaks = reached.leaks or any(bool(x.isnan().any()) for x in given)


def _nan(layer: nn.Module, x: Tensor) -> Tensor:
    """Which channels of what a layer takes or gives hold a NaN."""
    return x.isnan().movedim(_side(layer), 0).flatten(1).any(1)


def _side(layer: nn.Module) -> int:
    """The dimension of a layer's channels."""
    return -1 if isinstance(layer, nn.Linear) else 1
