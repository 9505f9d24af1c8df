"""What may become of a block: left out, narrower inside, or whatever the user gives."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from stagewise_kd.networks.shrunk import DROP, Change
from stagewise_kd.networks.tracer import Skip
from stagewise_kd.sizing.calls import Call, judging
from stagewise_kd.sizing.finding import find_blocks, keeps_shape
from stagewise_kd.sizing.hidden import hidden, narrower
from stagewise_kd.sizing.pairs import gathered
from stagewise_kd.system.errors import UserError, first_line

KEEP = "keep"
SHARES = (0.75, 0.5, 0.25)
Own = Callable[[str, nn.Module], Mapping[str, nn.Module]]


@dataclass(frozen=True)
class Alternative:
    """One thing that a block may become.

    Args:
        name: such as "keep", "drop", "width 0.5".
        module: takes the place of the block, with the weights that it inherits.
        change: what makes its shapes out of the block's; None: only the user's code can.
    """

    name: str
    module: nn.Module
    change: Change | None = None


@dataclass(frozen=True)
class Choices:
    """A block and all that it may become, "keep" first.

    Args:
        path: of the block in its network.
        call: what it is called with for a few images.
        alternatives: by name.
    """

    path: str
    call: Call
    alternatives: dict[str, Alternative]


def alternatives(
    model: nn.Module, example: Tensor, at: Sequence[str] | None = None, own: Own | None = None
) -> tuple[nn.Module, list[Choices]]:
    """The network as its blocks are called in it, and these in order, each with its alternatives.

    The network is the model itself, or computes the same with the same submodules, of which some
    are gathered in pairs.

    Args:
        model: is left as it is; "keep" is its own block.
        example: a few images as the model takes them, (B, C, H, W).
        at: names of the blocks; None: those that repeat or are residual, and of a network without
            any pairs of neighbouring layers.
        own: gives more alternatives of a block, by name.

    Raises:
        UserError: there is no block with an alternative, or one of the user's does not fit.
    """
    calls = find_blocks(model, example, at)
    every = {p: _choices(p, model.get_submodule(p), call, own) for p, call in calls.items()}
    found = {path: choices for path, choices in every.items() if len(choices.alternatives) > 1}
    if found:
        return model, [*found.values()]
    net, pairs = gathered(model, example) if at is None else (model, [])
    if not pairs:
        raise UserError(
            f"{type(model).__name__}: no block that can be left out or narrowed: none of "
            f"{len(calls) or 'its'} modules that repeat or are residual has inner channels or "
            "gives what it takes; name blocks with at=[…], or give alternatives of your own"
        )
    calls = find_blocks(net, example, pairs)
    return net, [_choices(p, net.get_submodule(p), call, None, False) for p, call in calls.items()]


def on_device(
    model: nn.Module, space: Sequence[Choices], device: torch.device
) -> tuple[nn.Module, list[Choices]]:
    """A network on the CPU and the alternatives of its blocks; copies where the device is another.

    Blocks are found on the CPU, where each call gives the same bits; they are measured anywhere.
    """
    if device.type == "cpu":
        return model, [*space]
    found = [
        Choices(
            choices.path,
            choices.call.mapped(lambda tensor: tensor.to(device)),
            {
                name: replace(one, module=deepcopy(one.module).to(device))
                for name, one in choices.alternatives.items()
            },
        )
        for choices in space
    ]
    return deepcopy(model).to(device), found


def _choices(
    path: str, block: nn.Module, call: Call, own: Own | None, droppable: bool = True
) -> Choices:
    found = {KEEP: Alternative(KEEP, block)}
    if droppable and keeps_shape(call):  # a pair is no module of the network
        found[DROP] = Alternative(DROP, Skip(), DROP)
    if groups := hidden(block, call):
        for share in SHARES:
            module, widths = narrower(block, groups, share)
            name = f"width {share}"
            found[name] = Alternative(name, module, widths)
    for name, module in (own(path, block) if own else {}).items():
        _check(path, name, module, call)
        found[name] = Alternative(name, module)
    return Choices(path, call, found)


def _check(path: str, name: str, module: nn.Module, call: Call) -> None:
    """See that an alternative of the user's fits into the place of a block."""
    try:
        given = call.again(judging(module)).shape
    except Exception as error:  # of the user's own code any
        raise UserError(f"{path}: alternative {name!r} cannot run: {first_line(error)}") from None
    if given != call.output.shape:
        raise UserError(
            f"{path}: alternative {name!r} gives {tuple(given)}, the block "
            f"{tuple(call.output.shape)}; give a module that keeps the shape"
        )
