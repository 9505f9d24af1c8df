"""A trained network in a checkpoint of any origin, and its head."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from stagewise_kd.networks.recognizing import (
    Shapes,
    Weights,
    choose,
    described,
    held,
    modules_of,
    nearest,
    shapes,
    under,
    without_head,
)
from stagewise_kd.networks.resnet import DEPTHS, Head, resnet_model
from stagewise_kd.system.errors import UserError

PUBLISHED = {"fc.0.weight", "fc.2.weight"}


def resnet_weights(
    tensors: dict[str, Tensor], name: str, classes: int, prefix: str | None, path: Path
) -> tuple[Head, dict[str, Tensor]]:
    """The kind of head of a ResNet in a checkpoint, and its weights as `resnet` names them.

    Args:
        tensors: all of the checkpoint.
        name: which ResNet is wanted.
        classes: how many classes there are; of several linear layers the head is that of so many.
        prefix: of the network's names, where the checkpoint holds several; None: found.
        path: what to call the checkpoint.

    Raises:
        UserError: it holds no such ResNet, several, or one with a head that `resnet` has not.
    """
    known = _bodies()
    found = choose(tensors, known, name, prefix, str(path))
    if found is not None:
        return _with_head(tensors, found, known[name], name, classes, path)
    own = nearest(tensors, known[name])
    _check_kind(tensors, own, name, path)
    return ("published" if own.keys() >= PUBLISHED else "linear"), own


def network_weights(
    tensors: dict[str, Tensor],
    model: nn.Module,
    name: str,
    classes: int,
    prefix: str | None,
    path: Path,
) -> dict[str, Tensor]:
    """The weights of any other network in a checkpoint, as it names them.

    Args:
        tensors: all of the checkpoint.
        model: the network.
        name: what it is called.
        classes: how many there are.
        prefix: of the network's names, where the checkpoint holds several; None: found.
        path: what to call the checkpoint.

    Raises:
        UserError: it holds no such network, or several.
    """
    expected, body = shapes(model), without_head(model)
    found = choose(tensors, {name: body or expected}, name, prefix, str(path))
    if found is None:
        own = nearest(tensors, expected)
        _check_kind(tensors, own, name, path)
        return own  # whoever loads it says what is wrong with it
    whole = under(tensors, found)
    modules = {key.split(".")[0] for key in expected}
    own = {key: value for key, value in whole.items() if key.split(".")[0] in modules}
    head = {key.rpartition(".")[2]: key for key in expected.keys() - body.keys()}
    if {*head} != {"weight", "bias"} or {*head.values()} & own.keys():
        return own
    rest = {key: value for key, value in whole.items() if key not in own}
    (width,) = expected[head["weight"]][1:]
    parts = _linear(rest or _beside(tensors, found), width, classes, f"{path} as {name}")
    return own | {head[key]: value for key, value in parts.items()}


def _check_kind(tensors: dict[str, Tensor], own: Weights, name: str, path: Path) -> None:
    """Name the network that a checkpoint holds, where it is plainly another one.

    Args:
        tensors: all of the checkpoint.
        own: those that bear most of the names that are wanted.
        name: of the network that is wanted.
        path: what to call the checkpoint.
    """
    kind = described(tensors, "*resn*" if own else "*") or own_kind(tensors)
    if kind:
        raise UserError(
            f"{path}: this is a {kind}, the run asks for teacher={name}; pick teacher={kind}"
        )
    if not own:
        raise UserError(
            f"{path}: this is {modules_of(tensors)}, the run asks for teacher={name}; name what "
            "was trained: teacher=timm/NAME, torchvision/NAME or module:function"
        )


def own_kind(tensors: Weights) -> str | None:
    """The name of a ResNet of ours that tensors are of; None where they are of none."""
    return next((kind for kind, body in _bodies().items() if held(tensors, {kind: body})), None)


@cache
def _bodies() -> dict[str, Shapes]:
    with torch.device("meta"):
        return {name: without_head(resnet_model(name, 2, "linear")) for name in DEPTHS}


def _with_head(
    tensors: dict[str, Tensor], prefix: str, body: Shapes, name: str, classes: int, path: Path
) -> tuple[Head, dict[str, Tensor]]:
    """The weights behind a prefix, with the head that stands there or beside them."""
    own = under(tensors, prefix)
    if own.keys() >= PUBLISHED:
        return "published", own
    modules = {key.split(".")[0] for key in body}
    inner = {key: value for key, value in own.items() if key.split(".")[0] in modules}
    rest = {key: value for key, value in own.items() if key not in inner}
    (width,) = [*body.values()][-1]
    head = _linear(rest or _beside(tensors, prefix), width, classes, f"{path} as {name}")
    return "linear", inner | {f"fc.{key}": value for key, value in head.items()}


def _beside(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What stands beside a prefix, as in backbone.*, head.fc.*."""
    above = prefix[: prefix[:-1].rfind(".") + 1]
    return under({k: v for k, v in tensors.items() if not k.startswith(prefix)}, above)


def _linear(given: dict[str, Tensor], width: int, classes: int, source: str) -> dict[str, Tensor]:
    """Weight and bias of the one linear layer among what is beside a body, whatever its name."""
    flat = {k: v for k, v in given.items() if v.ndim == 2 and k.endswith("weight")}
    if len(flat) > 1:
        flat = {key: value for key, value in flat.items() if tuple(value.shape) == (classes, width)}
    layers = [key.removesuffix("weight") for key, value in flat.items() if value.shape[1] == width]
    bias = given.get(f"{layers[0]}bias") if len(layers) == 1 else None
    if bias is None:
        found = ", ".join(f"{key} {tuple(value.shape)}" for key, value in [*given.items()][:4])
        raise UserError(
            f"{source}: its head is {found or 'missing'}; expected one linear layer of {width} "
            "inputs with a bias, or the published head; distill from a network with another head "
            "by teacher=module:function, or in Python: cls_kd.distill"
        )
    return {"weight": given[f"{layers[0]}weight"], "bias": bias}
