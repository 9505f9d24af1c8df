"""Networks some of whose blocks are left out or narrower, rebuilt from plain values."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.cutting import cut, known_cut
from stagewise_kd.networks.origin import Origin, rebuild
from stagewise_kd.networks.tracer import Skip
from stagewise_kd.system.errors import UserError

DROP = "drop"
Widths = Mapping[str, Sequence[int]]  # of modules in a block: how many channels come in, go out
Change = str | Widths
Recipe = Sequence[tuple[str, Change]]
BUILD = "stagewise_kd.networks.shrunk.shrunk"


def shrunk(build: str, arguments: dict[str, Any], recipe: Recipe, shape: Sequence[int]) -> BlockNet:
    """A network of ours with some blocks changed, as blocks, with random weights.

    Args:
        build: the function that builds the whole network.
        arguments: of that function.
        recipe: pairs of a block's path and what becomes of it: "drop", or the channels of its
            modules.
        shape: channels, height and width of an image.
    """
    net: BlockNet = rebuild(build, arguments)
    model = apply(net.model, recipe)
    origin = shrunk_origin(Origin(build, arguments), recipe, model, shape)
    return cut_again(model, net, shape, origin, **cuts(arguments))


def cuts(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """How a network is cut, out of all that it is built with."""
    return {"at": arguments.get("at"), "no_trace": arguments.get("no_trace") or ()}


def shrunk_origin(
    whole: Origin | None, recipe: Recipe, model: nn.Module, shape: Sequence[int]
) -> Origin:
    """What builds a network with changed blocks.

    Args:
        whole: what builds the whole one; None: the user's own code.
        recipe: pairs of a block's path and its change.
        model: the changed network.
        shape: channels, height and width of an image.
    """
    if whole is None or whole.build is None:
        before = whole.arguments["recipe"] if whole else []
        own = {"class": type(model).__qualname__, "recipe": [*before, *plain(recipe)]}
        return Origin(None, own)
    arguments = {"build": whole.build, "arguments": whole.arguments}
    return Origin(BUILD, {**arguments, "recipe": plain(recipe), "shape": [*shape]})


def cut_again(
    model: nn.Module,
    like: BlockNet,
    shape: Sequence[int],
    origin: Origin | None,
    at: Sequence[str] | None = None,
    no_trace: Sequence[str] = (),
) -> BlockNet:
    """A changed network as blocks, with the normalization of the whole one.

    Args:
        model: the changed network.
        like: the whole one.
        shape: channels, height and width of an image.
        origin: what builds the changed network again, if anything does.
        at: names of the modules at whose ends it is cut; None: those that the whole one is cut at,
            but where nothing is left of a block.
        no_trace: names of modules that cannot be traced, and stay whole.
    """
    example = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    mean, std = (values.flatten().tolist() for values in (like.mean, like.std))
    again = partial(cut, model, example, mean=mean, std=std, no_trace=no_trace)
    net = again(at or _ends(model, like))
    if merged := _merged(net):
        net = again([name for name in net.of_role("encoder") if name not in merged])
    net.origin = origin
    return net


def _merged(net: BlockNet) -> set[str]:
    """The ends before blocks that are empty: the block before takes their end for its own."""
    names = net.of_role("encoder")
    empty = [not any(True for _ in net.blocks[name].module.parameters()) for name in names]
    return {names[max(place - 1, 0)] for place, nothing in enumerate(empty) if nothing}


def _ends(model: nn.Module, like: BlockNet) -> list[str] | None:
    """The modules that end the blocks of a network, of a chain that was cut by their names."""
    names = [] if like.of_role("decoder") else [*like.of_role("encoder")]
    known = {name for name, _ in model.named_modules()}
    return names if names and {*names} <= known and known_cut(model) is None else None


def plain(recipe: Recipe) -> list[Any]:
    """A recipe as lists, dictionaries and numbers."""
    return [
        [path, change if isinstance(change, str) else {k: [*v] for k, v in change.items()}]
        for path, change in recipe
    ]


def apply(model: nn.Module, recipe: Recipe) -> nn.Module:
    """Change the blocks of a model, and give it back; of narrower ones the first channels stay.

    Args:
        model: is changed.
        recipe: pairs of a block's path and its change.

    Raises:
        UserError: the model has no such block.
    """
    for path, change in recipe:
        try:
            block = model.get_submodule(path)
            if isinstance(change, str):
                put(model, path, Skip())
                continue
            for name, (inputs, outputs) in change.items():
                narrow(block.get_submodule(name), torch.arange(inputs), torch.arange(outputs))
        except AttributeError:
            raise UserError(f"recipe: {type(model).__name__} has no block {path!r}") from None
    return model


def put(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module in the place of another, under each name that the network has for it.

    Args:
        model: is changed.
        path: a name of the other.
        module: what takes its place.
    """
    other = model.get_submodule(path)
    for parent in [*model.modules()]:
        for name, child in parent._modules.items():
            if child is other:
                parent._modules[name] = module


def narrow(module: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
    """Let a module keep some of its channels, with their weights.

    Args:
        module: a convolution, whose groups stay or go as wholes; a linear layer; a normalization.
        inputs: numbers of the channels that still come in.
        outputs: of those that still go out.
    """
    grouped = isinstance(module, _ConvNd) and module.groups > 1
    if isinstance(module, _ConvNd):
        module.groups = module.groups * len(inputs) // module.in_channels if grouped else 1
        module.in_channels, module.out_channels = len(inputs), len(outputs)
    elif isinstance(module, nn.Linear):
        module.in_features, module.out_features = len(inputs), len(outputs)
    elif isinstance(module, nn.GroupNorm):
        module.num_groups = module.num_groups * len(outputs) // module.num_channels
        module.num_channels = len(outputs)
    elif isinstance(module, _NormBase):
        module.num_features = len(outputs)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(outputs)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.ndim == 0:  # BatchNorm's counter
            continue
        found = tensor.detach()
        for side, kept in enumerate((outputs, inputs)[: 1 if grouped else tensor.ndim]):
            if len(kept) < found.shape[side]:
                found = found.index_select(side, kept.to(tensor.device))
        is_parameter = isinstance(tensor, nn.Parameter)
        setattr(module, name, nn.Parameter(found, tensor.requires_grad) if is_parameter else found)
