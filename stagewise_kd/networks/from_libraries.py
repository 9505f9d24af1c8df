"""Which function of timm or torchvision builds a network that was made in Python."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model_builder, get_model_weights, list_models

from stagewise_kd.networks.cutting import computes_the_same
from stagewise_kd.networks.libraries import library_model, library_origin
from stagewise_kd.networks.origin import Origin
from stagewise_kd.networks.outputs import output
from stagewise_kd.system.errors import UserError

CLASSES = 1000  # of ImageNet, which torchvision's numbers of parameters are told for
NEAREST = 2  # of the names in a module that are tried


def found_origin(
    model: nn.Module,
    example: Tensor,
    at: Sequence[str] | None,
    mean: Sequence[float],
    std: Sequence[float],
) -> Origin | None:
    """What builds a network of timm or torchvision again, so that its runs need no code to open.

    None where no function does by its name and the size of images alone: the network of the user's
    own code, or one that was changed. It must have the same modules and compute the same.

    Args:
        model: any network that gives logits.
        example: images as it takes them, (B, C, H, W).
        at: names of the modules at whose ends it is cut; None: found.
        mean: per-channel mean of the input, for images in [0, 1].
        std: per-channel standard deviation, likewise.
    """
    names = _names(model)
    logits = output(model, example) if names and example.shape[1] == 3 else None
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        return None
    classes, size = logits.shape[1], example.shape[2:]
    for name in names:
        with suppress(UserError), torch.random.fork_rng(devices=[]):
            again = library_model(name, classes, size)
            if _settings(again) == _settings(model) and computes_the_same(again, model, example):
                return library_origin(model, name, classes, size, None, at, mean, std)
    return None


def _settings(model: nn.Module) -> dict[str, Any]:
    """What a network's modules are, and their plain values: a rate of dropout is in no output."""
    found: dict[str, Any] = {"": repr(model)}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, (int, float, str, tuple)) and name != "training":
                found[f"{path}.{name}"] = value
    return found


def _names(model: nn.Module) -> list[str]:
    """Those that may be the network's, by what its library has written down."""
    home = type(model).__module__
    if home.startswith("timm."):
        told: Any = getattr(model, "pretrained_cfg", None) or {}
        return [f"timm/{told['architecture']}"] if told.get("architecture") else []
    if not home.startswith("torchvision.models."):
        return []
    names = list_models(module=torchvision.models)
    there = [name for name in names if get_model_builder(name).__module__ == home]
    return [f"torchvision/{name}" for name in sorted(there, key=partial(_off, model))[:NEAREST]]


def _off(model: nn.Module, name: str) -> int:
    """How many parameters a network has more or less than torchvision tells of a name."""
    told: Any = get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    *_, last = (m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    head, ours = (sum(p.numel() for p in part.parameters()) for part in (last, model))
    classes = len(last.weight)
    return abs(told.meta["num_params"] - ours + (classes - CLASSES) * head // classes)
