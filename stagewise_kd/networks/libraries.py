"""Networks that timm and torchvision build, as blocks."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from stagewise_kd.networks.blocks import IMAGENET, BlockNet
from stagewise_kd.networks.cutting import cut
from stagewise_kd.networks.names import LIBRARIES, library, name_fault
from stagewise_kd.networks.origin import Origin
from stagewise_kd.system.errors import UserError, first_line

# Options that the run sets, or that would read files.
RESERVED = {
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
    *("num_classes", "in_chans", "features_only", "weights", "weights_backbone", "progress"),
}
PLAIN = {  # networks whose training forward gives more than logits
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}


def library_net(
    name: str,
    classes: int,
    size: Sequence[int],
    arguments: Mapping[str, Any] | None = None,
    at: Sequence[str] | None = None,
    mean: Sequence[float] = IMAGENET[0],
    std: Sequence[float] = IMAGENET[1],
    no_trace: Sequence[str] = (),
) -> BlockNet:
    """A network of timm or torchvision with random weights, as blocks.

    Args:
        name: such as "timm/mobilenetv3_small_100".
        classes: number of classes.
        size: height and width of its images.
        arguments: further ones of the function that builds it.
        at: names of the modules at whose ends it is cut; None: found.
        mean: per-channel mean of the input, for images in [0, 1].
        std: per-channel standard deviation, likewise.
        no_trace: names of modules that cannot be traced, and stay whole.

    Raises:
        UserError: there is no such network, or it cannot be built, take such images, or be cut.
    """
    model = library_model(name, classes, size, arguments)
    return library_blocks(model, name, classes, size, arguments, at, mean, std, no_trace)


def library_blocks(
    model: nn.Module,
    name: str,
    classes: int,
    size: Sequence[int],
    arguments: Mapping[str, Any] | None,
    at: Sequence[str] | None,
    mean: Sequence[float],
    std: Sequence[float],
    no_trace: Sequence[str] = (),
) -> BlockNet:
    """A network that `library_model` has built as blocks, with what builds it again."""
    net = as_blocks(model, size, at, mean, std, no_trace)
    net.origin = library_origin(model, name, classes, size, arguments, at, mean, std, no_trace)
    return net


def library_origin(
    model: nn.Module,
    name: str,
    classes: int,
    size: Sequence[int],
    arguments: Mapping[str, Any] | None,
    at: Sequence[str] | None,
    mean: Sequence[float],
    std: Sequence[float],
    no_trace: Sequence[str] = (),
) -> Origin:
    """What builds a network of `library_model` again: `library_net`, with these arguments."""
    norm = {"mean": [*mean], "std": [*std]}
    told = {"name": name, "classes": classes, "size": [*size], "arguments": {**(arguments or {})}}
    told |= {"at": None if at is None else [*at], "no_trace": [*no_trace]}
    files = {} if library(name) != "timm" else _timm_files(model, name, told, norm)
    return Origin(f"{__name__}.library_net", told | norm, files)


def as_blocks(
    model: nn.Module,
    size: Sequence[int],
    at: Sequence[str] | None,
    mean: Sequence[float],
    std: Sequence[float],
    no_trace: Sequence[str] = (),
) -> BlockNet:
    """Any classifier as blocks, tried on an image of a size."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    example = torch.rand((2, 3, *size), generator=torch.Generator().manual_seed(0))
    return cut(model, example, at, mean=mean, std=std, no_trace=no_trace)


def library_model(
    name: str,
    classes: int,
    size: Sequence[int],
    arguments: Mapping[str, Any] | None = None,
    pretrained: bool = False,
) -> nn.Module:
    """The network itself.

    Args:
        name: such as "timm/mobilenetv3_small_100".
        classes: number of classes.
        size: height and width of its images, for networks that take one size alone.
        arguments: further ones of the function that builds it.
        pretrained: with the weights that the library has of it, but for the head.

    Raises:
        UserError: there is no such network or weights, or it cannot be built or fetched.
    """
    given = {**(arguments or {})}
    if library(name) not in LIBRARIES or (fault := name_fault(name)):
        raise UserError(fault if library(name) in LIBRARIES else f"{name}: is of no known library")
    if taken := sorted(RESERVED & given.keys()):
        raise UserError(f"{name}: arguments.{taken[0]}: is set by the run itself; leave it out")
    build = _timm if library(name) == "timm" else _torchvision
    try:
        with warnings.catch_warnings(action="ignore"):
            return build(name.partition("/")[2], classes, size, given, pretrained)
    except UserError:
        raise
    except Exception as error:  # of bad arguments whatever the library raises
        shown = f" with {given}" if given else ""
        raise UserError(f"{name}{shown}: cannot be built: {first_line(error)}") from None


def _timm(
    name: str, classes: int, size: Sequence[int], given: dict[str, Any], pretrained: bool
) -> nn.Module:
    known: Any = timm.models.get_pretrained_cfg(name)
    given = _timm_size(name, size) | given
    if not pretrained:
        return timm.create_model(name, num_classes=classes, **given)
    if known is None or not known.has_weights:
        raise UserError(f"teacher.pretrained=true: timm has no weights for {name}")
    try:
        return timm.create_model(name, pretrained=True, num_classes=classes, **given)
    except OSError as error:  # those of the hub's client are such
        raise _unreachable(f"timm/{name}", error) from None


def _timm_size(name: str, size: Sequence[int]) -> dict[str, Any]:
    """The option that makes a network of one size, such as a ViT, one of this size."""
    known: Any = timm.models.get_pretrained_cfg(name)
    return {"img_size": [*size]} if known is not None and known.fixed_input_size else {}


def torchvision_options(name: str, size: Sequence[int], given: Mapping[str, Any]) -> dict[str, Any]:
    """What torchvision's `get_model` gets of a network beside its name and number of classes.

    Args:
        name: as torchvision has it.
        size: height and width of its images.
        given: further arguments.
    """
    fixed: dict[str, Any] = {"input_size": tuple(size)} if name.startswith("maxvit_") else {}
    if name.startswith("vit_") and size[0] == size[1]:
        fixed = {"image_size": size[0]}
    return {**PLAIN.get(name, {}), **fixed, **given}


def _torchvision(
    name: str, classes: int, size: Sequence[int], given: dict[str, Any], pretrained: bool
) -> nn.Module:
    options = torchvision_options(name, size, given)
    model: nn.Module = get_model(name, weights=None, num_classes=classes, **options)
    if pretrained:
        expected = model.state_dict()
        weights = imagenet_weights(name)
        # the head of other classes, and what only its training had, stay behind
        fits = {k: v for k, v in weights.items() if k in expected and v.shape == expected[k].shape}
        model.load_state_dict(expected | fits)
    return model


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """The weights that torchvision has of a network.

    Raises:
        UserError: it has none, or they cannot be fetched.
    """
    try:
        entry: Any = get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    except ValueError:
        raise UserError(f"torchvision has no ImageNet weights for {name}") from None
    try:
        found: dict[str, Tensor] = entry.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise _unreachable(entry.url, error) from None
    return found


def _unreachable(what: str, error: Exception) -> UserError:
    return UserError(
        f"teacher.pretrained=true: cannot fetch {what} ({first_line(error)}); connect to the "
        "network, or give teacher.checkpoint=PATH"
    )


def own_norm(model: nn.Module) -> dict[str, list[float]]:
    """Mean and standard deviation that timm tells of a network; empty where it tells none."""
    told: Any = getattr(model, "pretrained_cfg", None) or {}
    return {key: [*told[key]] for key in ("mean", "std") if key in told}


def _timm_files(
    model: Any, name: str, told: dict[str, Any], norm: dict[str, Any]
) -> dict[str, Any]:
    """The config.json by which timm opens a folder of weights as "local-dir:FOLDER"."""
    known = model.pretrained_cfg
    kept = ("first_conv", "classifier", "fixed_input_size")
    own = {key: known[key] for key in kept if known.get(key) is not None}
    own |= {"input_size": [3, *told["size"]], "num_classes": told["classes"]}
    own |= {"interpolation": "bilinear"}  # as images of a run are scaled
    return {
        "config.json": {
            "architecture": known["architecture"],
            "num_classes": told["classes"],
            "model_args": _timm_size(name.partition("/")[2], told["size"]) | told["arguments"],
            "pretrained_cfg": own | norm,
        }
    }
