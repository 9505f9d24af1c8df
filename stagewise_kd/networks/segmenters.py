"""Networks of segmentation-models-pytorch, any encoder under any decoder, as blocks."""

import warnings
from collections.abc import Sequence
from inspect import signature
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from stagewise_kd.networks.blocks import Block, BlockNet, usual_norm
from stagewise_kd.networks.decoder_blocks import decoder_blocks
from stagewise_kd.networks.encoder_stages import encoder_stages
from stagewise_kd.networks.encoders import (
    check_encoder,
    checked_width,
    encoder_name,
    timms_name,
)
from stagewise_kd.networks.origin import Origin
from stagewise_kd.system.errors import UserError, first_line

# What is told by other means than the arguments of smp's class.
SET = ("encoder_name", "encoder_weights", "in_channels", "classes", "activation")
TWICE = ("unet", "manet")  # whose decoder blocks have two convolutions each
CLASSES = {name: kind for name, kind in smp.MODEL_ARCHITECTURES_MAPPING.items() if name != "dpt"}


def segmenter(
    model: str,
    encoder: str,
    classes: int,
    channels: int = 3,
    width: float = 1.0,
    arguments: dict[str, Any] | None = None,
    convolutions: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pretrained: bool = False,
) -> BlockNet:
    """A network as the blocks stem, layer1 … layer4, decoder0 …, head.

    Args:
        model: smp's name of the decoder, such as "unet".
        encoder: smp's name of the encoder.
        classes: channels of the logits; 1 for a binary mask.
        channels: of the image.
        width: factor of the encoder's channels, of ResNets of basic blocks.
        arguments: of smp's class beside these.
        convolutions: of each decoder block, 1 or 2, deepest first, where it has such; None for 2.
        mean: per-channel mean of the input; None for ImageNet's.
        std: per-channel standard deviation, likewise.
        pretrained: start the encoder from ImageNet weights.

    Raises:
        UserError: smp has no such network, or the pretrained weights cannot be fetched.
    """
    check_arguments(model, encoder, arguments or {})
    name = timms_name(encoder_name(encoder, checked_width(encoder, width)))
    given = usual_channels(model, arguments or {}) | (arguments or {})
    shape = {"in_channels": channels, "classes": classes, **given}
    net = _made(model, name, shape, pretrained)
    for block, count in zip(getattr(net.decoder, "blocks", ()), convolutions or (), strict=False):
        if count == 1:
            block.conv2 = nn.Identity()
    net.to(memory_format=torch.channels_last)
    return as_blocks(net, mean, std, encoder, width)


def check_arguments(model: str, encoder: str, arguments: dict[str, Any]) -> None:
    """Check the names in a description of a network.

    Raises:
        UserError: smp has no such decoder, encoder or argument.
    """
    if model not in CLASSES:
        raise UserError(f"model={model}: give one of {', '.join(CLASSES)}")
    check_encoder(encoder)
    known = argument_names(model)
    more = encoder.startswith(("tu-", "timm-"))  # which takes timm's own, and checks them
    if wrong := [name for name in arguments if name in SET or not (more or name in known)]:
        raise UserError(
            f"model.arguments.{wrong[0]}: {CLASSES[model].__name__} takes {', '.join(known)}"
        )


def argument_names(model: str) -> list[str]:
    """What smp's class of a model takes, beside what is told by other means."""
    return [name for name in signature(CLASSES[model]).parameters if name not in (*SET, "kwargs")]


def usual_channels(model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The channels that smp's class gives its decoder, of as many blocks as the encoder's depth."""
    depth = depth_of(model, arguments)
    return {
        name: [*parameter.default[:depth]]
        if isinstance(parameter.default, tuple)
        else parameter.default
        for name, parameter in signature(CLASSES[model]).parameters.items()
        if is_width(name)
    }


def depth_of(model: str, arguments: dict[str, Any]) -> int:
    """How many times the encoder halves the image."""
    usual: int = signature(CLASSES[model]).parameters["encoder_depth"].default
    found: int = arguments.get("encoder_depth", usual)
    return found


def is_width(name: str) -> bool:
    """Whether an argument of smp's class is a number of channels of the decoder."""
    return name.endswith("_channels") and name not in SET


def _made(model: str, encoder: str, arguments: dict[str, Any], pretrained: bool) -> Any:
    weights: Any = (True if encoder.startswith("tu-") else "imagenet") if pretrained else None
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            return CLASSES[model](encoder_name=encoder, encoder_weights=weights, **arguments)
    except Exception as error:  # of two libraries' own code any
        if pretrained:
            raise UserError(
                f"teacher.pretrained=true: cannot fetch ImageNet weights for {encoder} "
                f"({type(error).__name__}); connect to the network, or give "
                "teacher.checkpoint=PATH"
            ) from None
        raise UserError(f"model={model} over {encoder}: {first_line(error)}") from None


def as_blocks(
    model: Any,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    encoder: str | None = None,
    width: float = 1.0,
) -> BlockNet:
    """A network of smp as blocks; the submodules are the model's own.

    Args:
        model: the network; an activation behind its head is left out, so that it gives logits.
        mean: per-channel mean of the input for images in [0, 1]; None for ImageNet's.
        std: per-channel standard deviation, likewise.
        encoder: name of its encoder, before a width factor; None for the model's own word.
        width: factor of its encoder's channels.

    Raises:
        UserError: the network is none of those, or its encoder cannot be cut.
    """
    kinds = {kind: name for name, kind in CLASSES.items()}
    if type(model) not in kinds:
        known = ", ".join(kind.__name__ for kind in kinds)
        raise UserError(f"the network is a {type(model).__name__}; expected one of smp's {known}")
    config = model.config
    given = {k: _plain(v) for k, v in config.items() if k not in SET and not k.startswith("_")}
    usual = usual_norm(config["in_channels"])
    norm = {"mean": [*(mean or usual[0])], "std": [*(std or usual[1])]}
    arguments = {
        "model": kinds[type(model)],
        "encoder": encoder or config["encoder_name"],
        "classes": config["classes"],
        "channels": config["in_channels"],
        "width": width,
        "arguments": given,
        "convolutions": _convolutions(model) if kinds[type(model)] in TWICE else None,
        **norm,
    }
    origin = Origin(f"{__name__}.segmenter", arguments, _smp_files(model, arguments))
    try:
        return BlockNet(model, _blocks(model), **norm, origin=origin)
    except UserError as error:
        raise UserError(f"{arguments['encoder']}: {error}; pick another encoder") from None


def _plain(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value


def _blocks(model: Any) -> list[Block]:
    stages = encoder_stages(model)
    decoder = decoder_blocks(model, stages)
    head = nn.Sequential(*list(model.segmentation_head)[:2])
    last = Block("head", head, (decoder[-1].name,), "head")
    return [*(stage for stage in stages if stage), *decoder, last]


def _convolutions(model: Any) -> list[int]:
    """Of each decoder block, deepest first."""
    return [1 if isinstance(block.conv2, nn.Identity) else 2 for block in model.decoder.blocks]


def _smp_files(model: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """What smp's `from_pretrained` rebuilds the network from; nothing where smp has none such."""
    if arguments["width"] != 1 or 1 in (arguments["convolutions"] or ()):
        return {}
    config = {k: _plain(v) for k, v in model.config.items() if not k.startswith("_")}
    own = {"encoder_weights": None, "activation": None, "_model_class": type(model).__name__}
    return {"config.json": config | own}
