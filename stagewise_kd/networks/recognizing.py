"""Which networks the tensors of a checkpoint are, told by their names and shapes."""

import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from os.path import commonpath

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, list_models

from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.processes import rank
from stagewise_kd.system.weights import COUNTER

Weights = Mapping[str, Tensor]
Shapes = dict[str, torch.Size]
TAUGHT = {"teacher", "ema"}  # words of a prefix that tell which of several networks is meant


def shapes(network: nn.Module) -> Shapes:
    """Names and shapes of the weights of a network."""
    return {k: v.shape for k, v in network.state_dict().items() if not k.endswith(COUNTER)}


def under(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """The weights whose names start with a prefix, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def choose(
    weights: Weights, known: Mapping[str, Shapes], name: str, asked: str | None, source: str
) -> str | None:
    """The prefix under which a checkpoint holds the network that is meant.

    Of several the one is taken that is called teacher or EMA, where that is one.

    Args:
        weights: all tensors of the checkpoint.
        known: of each kind of network what all of its kind have: its body without the head.
        name: the kind that is wanted.
        asked: the prefix that the user has chosen, or its end; None: whichever fits.
        source: what to call the checkpoint.

    Returns:
        Such as "state_dict.model."; None where no network of a known kind is held.

    Raises:
        UserError: it holds other kinds, or several networks of this one.
    """
    there = held(weights, known)
    every = "; ".join(f"{prefix[:-1] or 'no prefix'}: {kind}" for prefix, kind in there.items())
    if asked is not None and there:
        ends = str(asked).removesuffix(".")
        exact = [p for p in there if p == f"{ends}." or p == ends]
        named = exact or [p for p in there if p.endswith(f".{ends}.")]
        if not named:
            raise UserError(f"{source}: teacher.prefix={asked}: no network is there, but {every}")
        there = {prefix: there[prefix] for prefix in named}
    right = [prefix for prefix, kind in there.items() if kind == name]
    if there and not right:
        kinds = sorted({*there.values()})
        raise UserError(
            f"{source}: this is a {' and a '.join(kinds)}, the run asks for teacher={name}; "
            f"pick teacher={kinds[0]}"
        )
    if len(right) > 1:
        right = [prefix for prefix in right if TAUGHT & {*re.split(r"[._]", prefix)}]
        if len(right) != 1:
            raise UserError(
                f"{source}: holds several networks ({every}); choose with teacher.prefix=PREFIX"
            )
    if right and ";" in every and asked is None and rank() == 0:
        chosen = right[0][:-1] or "no prefix"
        console.print(f"{source}: holds {every}; taken: {chosen}", soft_wrap=True, highlight=False)
    return right[0] if right else None


def held(weights: Weights, known: Mapping[str, Shapes]) -> dict[str, str]:
    """The kinds of the networks in a checkpoint, by prefix."""
    return {
        prefix: kind
        for kind, body in known.items()
        for prefix in prefixes(weights, body)
        if _is(under(weights, prefix), body)
    }


def prefixes(weights: Weights, body: Mapping[str, object]) -> list[str]:
    """What stands before the first name of a network, wherever a checkpoint has it."""
    first = next(iter(body))
    return [k.removesuffix(first) for k in weights if k == first or k.endswith(f".{first}")]


def _is(weights: Weights, body: Shapes) -> bool:
    """Whether the weights are such a body and whatever else, but no larger one of its modules."""
    modules = {key.split(".")[0] for key in body}
    there = {k: v.shape for k, v in weights.items() if k.split(".")[0] in modules}
    return {k: v for k, v in there.items() if not k.endswith(COUNTER)} == body


def nearest(weights: Weights, body: Shapes) -> dict[str, Tensor]:
    """The weights under the prefix that most of a body's names stand behind, be they half of them.

    Empty where there is none.
    """
    found = [under(weights, prefix) for prefix in prefixes(weights, body)]
    best = max(found, key=lambda some: len(body.keys() & some), default={})
    return best if 2 * len(body.keys() & best) >= len(body) else {}


def described(weights: Weights, like: str = "*") -> str | None:
    """Such as torchvision/vgg16, of those like a pattern; None where it is none of these."""
    for name in list_models(module=torchvision.models, include=like):
        with (
            torch.device("meta"),
            warnings.catch_warnings(action="ignore"),
            suppress(NotImplementedError),  # some cannot be made without memory
        ):
            if held(weights, {name: without_head(get_model(name, weights=None))}):
                return f"torchvision/{name}"
    return None


def modules_of(weights: Weights) -> str:
    """The first modules of a network that is not known."""
    names = [key.replace(".", "/") for key in weights if key.endswith("weight")] or [*weights]
    start = commonpath([name.rpartition("/")[0] for name in names])
    found = dict.fromkeys(name[len(start) :].strip("/").split("/")[0] for name in names)
    return f"a network of {', '.join([*found][:5])}"


def without_head(network: nn.Module) -> Shapes:
    """Names and shapes of all weights but those of the last module."""
    found = shapes(network)
    *_, last = (key.split(".")[0] for key in found)
    return {key: shape for key, shape in found.items() if key.split(".")[0] != last}
