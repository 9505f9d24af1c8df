"""Channels that begin and end inside a block, so that it may have fewer of them.

Which they are is probed: every other channel of a layer's output is made NaN, and it is looked
where NaN arrives. What a block computes between its layers need not be known or traced.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from stagewise_kd.networks.shrunk import Widths, narrow
from stagewise_kd.sizing.calls import Call

INPUT = ""  # in place of a layer's name


@dataclass
class Reached:
    """Where the channels of a layer arrive, by name the places that are NaN.

    Args:
        reads: layers that mix them.
        passes: layers that keep them apart.
        leaks: whether they leave the block, or reach something that cannot be narrowed.
    """

    reads: dict[str, Tensor] = field(default_factory=dict)
    passes: dict[str, Tensor] = field(default_factory=dict)
    leaks: bool = False


@dataclass(frozen=True)
class Hidden:
    """Some channels inside a block.

    Args:
        count: how many.
        makes: names of the layers that give them.
        passes: of those that keep them apart: BatchNorms, convolutions of one group a channel.
        reads: of the layers that take them in.
    """

    count: int
    makes: tuple[str, ...]
    passes: tuple[str, ...]
    reads: tuple[str, ...]


def hidden(block: nn.Module, call: Call) -> list[Hidden]:
    """All channels of a block that can be fewer without a change at its borders.

    Args:
        block: is left as it is.
        call: what it is called with.
    """
    copy = deepcopy(block).eval()
    layers = {n: m for n, m in copy.named_modules() if _makes(m)}
    reached = {name: _probe(copy, call, name) for name in (INPUT, *layers)}
    found: list[Hidden] = []
    for group in _groups({name: {*probe.reads} for name, probe in reached.items()}):
        if INPUT in group or not all(_aligned(reached[n], _outputs(layers[n])) for n in group):
            continue
        reads = dict.fromkeys(read for name in group for read in reached[name].reads)
        passes = dict.fromkeys(name for maker in group for name in reached[maker].passes)
        one = Hidden(_outputs(layers[group[0]]), tuple(group), tuple(passes), tuple(reads))
        if _holds(copy, call, one):
            found.append(one)
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
        count = max(1, round(share * group.count))
        kept = weight(block, group).topk(count).indices.sort().values
        for name in (*group.makes, *group.passes, *group.reads):
            layer = changed[name] = copy.get_submodule(name)
            inputs, outputs = (torch.arange(number) for number in sizes(layer))
            passes = name in group.passes
            inputs = kept if passes or name in group.reads else inputs
            outputs = kept if passes or name in group.makes else outputs
            narrow(layer, inputs, outputs)
    return copy, {name: [*sizes(layer)] for name, layer in changed.items()}


def weight(block: nn.Module, group: Hidden) -> Tensor:
    """How much each channel weighs: how strong it comes out, times how strongly it is read.

    A channel comes out of a BatchNorm as strong as its scale, else as the norm of its weights.
    """
    norms = [block.get_submodule(name) for name in group.passes]
    scales = [m.weight for m in norms if isinstance(m, _BatchNorm) and m.affine]
    made = [_norm(block.get_submodule(name), 0) for name in group.makes]
    given = scales[-1].detach().abs() if scales else torch.stack(made).square().sum(0).sqrt()
    read = [_norm(block.get_submodule(name), 1) for name in group.reads]
    return given * torch.stack(read).square().sum(0).sqrt()


def sizes(layer: Any) -> tuple[int, int]:
    """How many channels come into a layer, and how many go out."""
    if isinstance(layer, _BatchNorm):
        return layer.num_features, layer.num_features
    if isinstance(layer, _ConvNd):
        return layer.in_channels, layer.out_channels
    return layer.in_features, layer.out_features


def _norm(layer: Any, side: int) -> Tensor:
    found: Tensor = layer.weight.detach().movedim(side, 0).flatten(1).norm(dim=1)
    return found


def _outputs(layer: nn.Module) -> int:
    return sizes(layer)[1]


def _plain(layer: nn.Module) -> bool:
    names = {name for name, _ in layer.named_parameters()}
    return names <= {"weight", "bias"} and not hasattr(layer, "parametrizations")


def _makes(layer: nn.Module) -> bool:
    """Whether a layer mixes all channels that it takes into each that it gives."""
    kind = isinstance(layer, nn.Linear) or (
        isinstance(layer, _ConvNd) and not isinstance(layer, _ConvTransposeNd) and layer.groups == 1
    )
    return kind and _plain(layer)


def _passes(layer: nn.Module) -> bool:
    """Whether a layer keeps channels apart."""
    apart = isinstance(layer, _ConvNd) and layer.groups == layer.in_channels == layer.out_channels
    return (apart or isinstance(layer, _BatchNorm)) and _plain(layer)


def _nan(layer: nn.Module, x: Tensor) -> Tensor:
    """Which channels of what a layer takes or gives hold a NaN."""
    side = -1 if isinstance(layer, nn.Linear) else 1
    return x.isnan().movedim(side, 0).flatten(1).any(1)


@torch.no_grad()
def _probe(block: nn.Module, call: Call, maker: str) -> Reached:
    """Make every other channel of a layer NaN, or all that the block takes."""
    reached, hooks = Reached(), []
    for name, layer in block.named_modules():
        if _makes(layer):
            hooks.append(layer.register_forward_pre_hook(partial(_read, reached, name)))
        elif _passes(layer):
            hooks.append(layer.register_forward_hook(partial(_pass, reached, name)))
        elif [*layer.parameters(recurse=False)]:
            hooks.append(layer.register_forward_hook(partial(_end, reached)))
        if name == maker != INPUT:
            hooks.append(layer.register_forward_hook(_poison))
    given = call if maker != INPUT else call.mapped(lambda x: torch.full_like(x, torch.nan))
    try:
        output = given.again(block)
    finally:
        for hook in hooks:
            hook.remove()
    reached.leaks = reached.leaks or bool(output.isnan().any())
    return reached


def _poison(layer: nn.Module, args: Any, output: Tensor) -> Tensor:
    poisoned = output.clone()
    poisoned.movedim(-1 if isinstance(layer, nn.Linear) else 1, 0)[1::2] = torch.nan
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


def _aligned(reached: Reached, count: int) -> bool:
    """Whether channels arrive where they should, and nowhere else."""
    expected = torch.arange(count) % 2 == 1
    places = [*reached.reads.values(), *reached.passes.values()]
    alike = all(len(found) == count and bool((found.cpu() == expected).all()) for found in places)
    return bool(reached.reads) and not reached.leaks and alike and count > 1


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
    kept = weight(block, group).topk(max(1, round(0.5 * group.count))).indices
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
