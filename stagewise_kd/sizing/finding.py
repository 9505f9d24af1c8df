"""The blocks of a network that may be left out or narrowed: repeated ones, and residual ones."""

from collections import Counter
from collections.abc import Iterable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from stagewise_kd.networks.cost import params
from stagewise_kd.sizing.calls import Call, judging, recorded
from stagewise_kd.sizing.layers import is_layer
from stagewise_kd.system.errors import UserError, listed

PLAIN = (nn.Module.forward, nn.Sequential.forward)  # of a mere container


def find_blocks(model: nn.Module, example: Tensor, at: Sequence[str] | None) -> dict[str, Call]:
    """The blocks in running order, and what each is called with.

    A block is called once, with tensors, and gives one tensor. By itself this finds residual
    modules, and modules of one class in a container or beside each other.

    Args:
        model: any network.
        example: images as the model takes them, (B, C, H, W).
        at: names of the modules instead.

    Raises:
        UserError: the model has no such modules, or they are no blocks.
    """
    modules = {n: m for n, m in model.named_modules() if n and _weighty(m) and [*m.children()]}
    wanted = _known(model, at) if at is not None else [n for n in modules if not _bare(modules[n])]
    calls, _ = recorded(model, wanted, example)
    once = {n: found[0] for n, found in calls.items() if len(found) == 1 and _single(found[0])}
    if at is None:
        return {name: once[name] for name in _chosen(model, once) if name in once}
    if strange := [name for name in at if name not in once]:
        raise UserError(
            f"at: {listed(strange)}: no block, for it is not called once for an image, or does not "
            "give one tensor; name modules that do"
        )
    return {name: once[name] for name in once}


def _known(model: nn.Module, at: Sequence[str]) -> list[str]:
    names = dict(model.named_modules())
    if isinstance(at, str):
        raise UserError(f"at={at!r}: give a list of names, such as [{at!r}]")
    if unknown := [name for name in at if name not in names or not name]:
        raise UserError(f"at: {type(model).__name__} has no module {listed(unknown)}")
    if nested := [name for name in at if _inside(name, at)]:
        raise UserError(f"at: {listed(nested)}: lies inside another one; name one of them")
    return [*at]


def _chosen(model: nn.Module, calls: dict[str, Call]) -> list[str]:
    """Names of blocks in running order, none inside another."""
    modules = dict(model.named_modules())
    residual = _innermost(
        [n for n, call in calls.items() if is_residual(modules[n], call)], modules
    )
    repeated = _innermost(_apart(_repeated(modules, calls), residual), modules)
    found = [*residual, *repeated]
    kinds = {type(modules[name]) for name in residual}
    found += _apart([name for name in calls if type(modules[name]) in kinds], found)
    beside = _apart(_siblings(modules, calls), found)
    found += [name for name in beside if not _inside(name, beside)]
    return [name for name in calls if name in {*found}]


def _repeated(modules: dict[str, nn.Module], names: Iterable[str]) -> list[str]:
    """Modules of several layers in a container of modules of their class."""
    found = []
    for name in names:
        parent, own = modules[name.rpartition(".")[0]], modules[name]
        kinds = Counter(type(child) for child in parent.children())
        alike = _bare(parent) and (len(kinds) == 1 or kinds[type(own)] > 1)
        if alike and sum(map(is_layer, own.modules())) > 1:
            found.append(name)
    return found


def _siblings(modules: dict[str, nn.Module], names: Iterable[str]) -> list[str]:
    """Modules of several layers that stand beside others of their class."""
    found = []
    for name in names:
        parent, own = modules[name.rpartition(".")[0]], modules[name]
        alike = sum(type(child) is type(own) for child in parent.children())
        if alike > 1 and sum(map(is_layer, own.modules())) > 1:
            found.append(name)
    return found


@torch.no_grad()
def is_residual(module: nn.Module, call: Call) -> bool:
    """Whether a module adds to what it takes, as is seen when all its weights are zero.

    Biases are not, so that gates whose halves add up to one are told apart.
    """
    if not keeps_shape(call) or not call.tensors[0].any():
        return False
    copy = judging(deepcopy(module))
    for name, parameter in copy.named_parameters():
        parameter.fill_(name.endswith("bias"))
    (x,) = call.tensors
    twice = call.mapped(lambda tensor: 2 * tensor).again(copy)
    return bool((twice - call.again(copy) - x).norm() <= 1e-4 * x.norm())


def keeps_shape(call: Call) -> bool:
    """Whether a module takes one tensor, at first, and gives one of the same shape."""
    alone = len(call.tensors) == 1 and call.args and call.args[0] is call.tensors[0]
    return bool(alone) and call.tensors[0].shape == call.output.shape


def _single(call: Call) -> bool:
    return isinstance(call.output, Tensor) and bool(call.tensors)


def _bare(module: nn.Module) -> bool:
    """Whether a module is but a container."""
    return type(module).forward in PLAIN or isinstance(module, nn.ModuleList | nn.ModuleDict)


def _weighty(module: nn.Module) -> bool:
    return any(map(is_layer, module.modules()))


def _innermost(names: Sequence[str], modules: dict[str, nn.Module]) -> list[str]:
    """Names, none inside another: those within, where they hold most of the weights."""
    found: list[str] = []
    for name in sorted(names, key=lambda name: name.count("."), reverse=True):
        within = [other for other in found if other.startswith(f"{name}.")]
        if 2 * sum(params(modules[other]) for other in within) < params(modules[name]):
            found = [other for other in found if other not in within] + [name]
    return [name for name in names if name in found]


def _inside(name: str, names: Iterable[str]) -> bool:
    return any(name.startswith(f"{other}.") for other in names)


def _apart(names: Iterable[str], found: Sequence[str]) -> list[str]:
    """Names that are neither in those found, nor inside or around one of them."""
    return [
        name
        for name in names
        if name not in found
        and not _inside(name, found)
        and not any(other.startswith(f"{name}.") for other in found)
    ]
