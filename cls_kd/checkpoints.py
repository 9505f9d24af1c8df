"""A trained ResNet in a checkpoint of any origin, and its head."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from stagewise_kd.networks.recognizing import (
    Shapes,
    choose,
    described,
    modules_of,
    nearest,
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
    kind = described(tensors, "*resn*" if own else "*")
    if own and not kind:  # whoever loads it says what is wrong with it
        return ("published" if own.keys() >= PUBLISHED else "linear"), own
    raise UserError(
        f"{path}: this is {kind or modules_of(tensors)}; pick one of teacher={'|'.join(DEPTHS)}, "
        "or distill from any other network in Python: cls_kd.distill"
    )


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
    above = prefix[: prefix[:-1].rfind(".") + 1]  # as in backbone.*, head.fc.*
    outer = under({k: v for k, v in tensors.items() if not k.startswith(prefix)}, above)
    return "linear", inner | _linear(rest or outer, body, classes, f"{path} as {name}")


def _linear(given: dict[str, Tensor], body: Shapes, classes: int, source: str) -> dict[str, Tensor]:
    """The one linear layer among what is beside a body, whatever its name, as torchvision's."""
    (width,) = [*body.values()][-1]
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
            "in Python: cls_kd.distill"
        )
    return {"fc.weight": given[f"{layers[0]}weight"], "fc.bias": bias}
