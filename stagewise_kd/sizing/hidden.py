"""Channels that begin and end inside a block, so that it may have fewer of them."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn

from stagewise_kd.networks.shrunk import Widths, narrow
from stagewise_kd.sizing.calls import Call, judging
from stagewise_kd.sizing.layers import apart, mixes, sizes
from stagewise_kd.sizing.probing import INPUT, Reached, probe


@dataclass(frozen=True)
class Hidden:
    """Some channels inside a block.

    Args:
        count: how many.
        unit: how many neighbours stay or go together, where layers have groups.
        makes: names of the layers that give them.
        passes: of those that keep them apart: normalizations, convolutions in groups.
        reads: of the layers that take them in.
    """

    count: int
    unit: int
    makes: tuple[str, ...]
    passes: tuple[str, ...]
    reads: tuple[str, ...]


def hidden(block: nn.Module, call: Call) -> list[Hidden]:
    """All channels of a block that can be fewer without a change at its borders.

    Args:
        block: is left as it is.
        call: what it is called with.
    """
    copy = judging(deepcopy(block))
    layers = {n: m for n, m in copy.named_modules() if mixes(m)}
    units = sorted({1, *map(apart, copy.modules())} - {0})
    reached = {INPUT: probe(copy, call, INPUT)}
    reached |= {name: _reached(copy, call, name, units) for name in layers}
    found: list[Hidden] = []
    for group in _groups({name: {*one.reads} for name, one in reached.items()}):
        if INPUT in group or not all(reached[n].aligned(_outputs(layers[n])) for n in group):
            continue
        reads = dict.fromkeys(read for name in group for read in reached[name].reads)
        passes = dict.fromkeys(name for maker in group for name in reached[maker].passes)
        unit, count = lcm(*(reached[name].unit for name in group)), _outputs(layers[group[0]])
        one = Hidden(count, unit, tuple(group), tuple(passes), tuple(reads))
        if count % unit == 0 and _holds(copy, call, one):
            found.append(one)
    return found


def _reached(block: nn.Module, call: Call, maker: str, units: list[int]) -> Reached:
    """Where the channels of a layer arrive, in the smallest unit in which they stay apart."""
    for unit in units:
        found = probe(block, call, maker, unit)
        if found.leaks or found.aligned(_outputs(block.get_submodule(maker))):
            break
    return found


def narrower(block: nn.Module, groups: list[Hidden], share: float) -> tuple[nn.Module, Widths]:
    """A copy of a block with a share of its hidden channels, those that weigh most; its widths.

    Args:
        block: is left as it is.
        groups: of its channels.
        share: above 0, below 1.
    """
    copy = deepcopy(block)
    changed: dict[str, nn.Module] = {}
    for group in groups:
        kept = strongest(block, group, share)
        for name in (*group.makes, *group.passes, *group.reads):
            layer = changed[name] = copy.get_submodule(name)
            inputs, outputs = (torch.arange(number) for number in sizes(layer))
            passes = name in group.passes
            inputs = kept if passes or name in group.reads else inputs
            outputs = kept if passes or name in group.makes else outputs
            narrow(layer, inputs, outputs)
    return copy, {name: [*sizes(layer)] for name, layer in changed.items()}


def strongest(block: nn.Module, group: Hidden, share: float) -> Tensor:
    """Numbers of the channels that weigh most, in order: a share of them, whole units."""
    units = weight(block, group).view(-1, group.unit).sum(1)
    kept = units.topk(max(1, round(share * len(units)))).indices.sort().values
    first = group.unit * kept.unsqueeze(1)
    return (first + torch.arange(group.unit, device=kept.device)).flatten()


def weight(block: nn.Module, group: Hidden) -> Tensor:
    """How much each channel weighs: how strong it comes out, times how strongly it is read.

    A channel comes out of a normalization as strong as its scale, else as the norm of its weights.
    """
    passed: list[Any] = [block.get_submodule(name) for name in group.passes]
    scales = [m.weight for m in passed if getattr(m, "affine", False)]
    made = [_norm(block.get_submodule(name), 0) for name in group.makes]
    given = scales[-1].detach().abs() if scales else torch.stack(made).square().sum(0).sqrt()
    read = [_norm(block.get_submodule(name), 1) for name in group.reads]
    found: Tensor = given * torch.stack(read).square().sum(0).sqrt()
    return found


def _norm(layer: Any, side: int) -> Tensor:
    weights = layer.weight.detach()
    found: Tensor = weights.square().sum([d for d in range(weights.ndim) if d != side]).sqrt()
    return found


def _outputs(layer: nn.Module) -> int:
    return sizes(layer)[1]


def _groups(reads: dict[str, set[str]]) -> list[list[str]]:
    """Makers that have a reader in common, directly or by others."""
    groups: list[tuple[list[str], set[str]]] = []
    for name, read in reads.items():
        touched = [group for group in groups if group[1] & read]
        names = [other for group in touched for other in group[0]]
        groups = [group for group in groups if group not in touched]
        groups.append(([*names, name], read.union(*(group[1] for group in touched))))
    return [names for names, _ in groups]


@torch.no_grad()
def _holds(block: nn.Module, call: Call, group: Hidden) -> bool:
    """Whether the block works without half of these channels, as if nobody read them."""
    less, _ = narrower(block, [group], 0.5)
    kept = strongest(block, group, 0.5)
    unread = deepcopy(block)
    for name in group.reads:
        mask = torch.zeros(group.count, device=kept.device).index_fill(0, kept, 1)
        layer: Any = unread.get_submodule(name)
        layer.weight.mul_(mask.view(1, -1, *[1] * (layer.weight.ndim - 2)))
    return _tried(partial(call.again, less), partial(call.again, unread))


def _tried(one: Callable[[], Any], other: Callable[[], Any]) -> bool:
    try:
        return bool(one().allclose(other(), rtol=1e-3, atol=1e-4))
    except Exception:  # of the user's own code any: a shape that it counts on
        return False
