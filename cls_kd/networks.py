"""The networks of a config, by their names."""

from typing import Any

from torch import nn

from stagewise_kd.data.image_files import sides
from stagewise_kd.networks.archived import WIDTHS as ARCHIVED
from stagewise_kd.networks.archived import archived
from stagewise_kd.networks.blocks import IMAGENET, BlockNet
from stagewise_kd.networks.libraries import (
    as_blocks,
    imagenet_weights,
    library_blocks,
    library_model,
    own_norm,
)
from stagewise_kd.networks.names import LIBRARIES, is_function, library
from stagewise_kd.networks.resnet import DEPTHS, Head, resnet
from stagewise_kd.runs.own_function import own_model
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.names import SHRUNK, Config
from stagewise_kd.system.weights import load_weights

OURS = (*DEPTHS, *ARCHIVED)


def network_faults(config: Config) -> list[str]:
    """What is wrong with the names and options of student and teacher."""
    faults = []
    for who in ("student", "teacher"):
        settings = config[who] or {}
        name = settings.get("name", "resnet10")
        if name == SHRUNK and who == "student":
            continue
        if not (name in OURS or is_function(name) or library(name) in LIBRARIES):
            faults.append(
                f"{who}={name}: there are {', '.join(OURS)}, timm/NAME, torchvision/NAME and "
                "module:function"
            )
        elif name in OURS and settings.get("arguments"):
            faults.append(f"{who}.arguments: are for networks of libraries and of your own")
        elif name not in DEPTHS and settings.get("head"):
            faults.append(f"{who}.head: is for {', '.join(DEPTHS)}; {name} has a head of its own")
        if is_function(name) and settings.get("pretrained"):
            faults.append(f"{who}.pretrained: no library has weights of {name}; load them there")
    return faults


def make_network(
    config: Config, settings: Config, classes: int, norm: dict[str, Any] | None = None
) -> BlockNet:
    """A network with random weights, as blocks.

    Args:
        config: the whole resolved config.
        settings: its `student` or `teacher`.
        classes: number of classes.
        norm: mean and std of the input; None: the data set's.
    """
    found = norm or config["data"]
    if settings["name"] in DEPTHS:
        return _resnet(config, settings, classes, settings["head"] or "published", found)
    if settings["name"] in ARCHIVED:
        size = sides(config["data"]["size"])
        net = archived(settings["name"], classes, size, found["mean"], found["std"])
        return _cut_at(config, settings, net)
    return blocks_of(config, settings, make_model(config, settings, classes), classes, found)


def make_model(config: Config, settings: Config, classes: int) -> nn.Module:
    """A network that is none of ours, with random weights."""
    name, arguments = settings["name"], settings.get("arguments")
    if is_function(name):
        return own_model(name, classes, arguments)
    return library_model(name, classes, sides(config["data"]["size"]), arguments)


def blocks_of(
    config: Config, settings: Config, model: nn.Module, classes: int, norm: dict[str, Any]
) -> BlockNet:
    """Such a network as blocks."""
    size, values = sides(config["data"]["size"]), (norm["mean"], norm["std"])
    at, no_trace = settings.get("at"), settings.get("no_trace") or ()
    try:
        if is_function(settings["name"]):
            return as_blocks(model, size, at, *values, no_trace)
        given = settings.get("arguments")
        name = settings["name"]
        return library_blocks(model, name, classes, size, given, at, *values, no_trace)
    except UserError as error:
        raise UserError(f"{settings['name']}: {error}") from None


def pretrained(config: Config, settings: Config, classes: int) -> BlockNet:
    """A network with its library's weights under a fresh head, and their normalization.

    Raises:
        UserError: the library has none for this network, or they cannot be fetched.
    """
    name = settings["name"]
    norm = dict(zip(("mean", "std"), IMAGENET, strict=True))
    if name not in DEPTHS:
        size = sides(config["data"]["size"])
        model = library_model(name, classes, size, settings.get("arguments"), pretrained=True)
        return blocks_of(config, settings, model, classes, norm | own_norm(model))
    weights = imagenet_weights(name)
    net = _resnet(config, settings, classes, settings["head"] or "published", norm)
    head = {key: value for key, value in net.model.state_dict().items() if key.startswith("fc.")}
    body = {key: value for key, value in weights.items() if not key.startswith("fc.")}
    load_weights(net.model, body | head, f"torchvision's {name}")
    return net


def _resnet(
    config: Config, settings: Config, classes: int, head: Head, norm: dict[str, Any]
) -> BlockNet:
    net = resnet(settings["name"], classes, head, norm["mean"], norm["std"])
    return _cut_at(config, settings, net)


def _cut_at(config: Config, settings: Config, net: BlockNet) -> BlockNet:
    """A network of ours, cut elsewhere where that is asked for."""
    if not settings.get("at"):
        return net
    size, norm = sides(config["data"]["size"]), (net.mean.flatten(), net.std.flatten())
    cut = as_blocks(net.model, size, settings["at"], *(values.tolist() for values in norm))
    cut.origin = net.origin
    return cut
