"""Saved U-Nets: a student's folder, smp's own folders, and files of weights."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError
from torch import nn

from seg_kd.unet import as_blocks, unet
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.student import load_student
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import load_weights, read_weights


def load(path: str | Path) -> smp.Unet:
    """The U-Net of a finished run, ready for normalized images, in eval mode.

    Args:
        path: the run folder, or its student/ folder.

    Raises:
        UserError: there is no finished student.
    """
    net, _ = open_network(Path(path))
    # In the memory format of a model that smp has built, so that outputs agree to the last bit.
    model: smp.Unet = net.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return model


def open_network(path: Path) -> tuple[BlockNet, dict[str, Any]]:
    """The student of a finished run as blocks, in eval mode, and its description.

    Raises:
        UserError: there is no finished student of segmentation, or its files are damaged.
    """
    weights, described = load_student(path, "segmentation")
    net = unet(**described["network"])
    load_weights(net.model, weights, str(path))
    return net.eval(), described


def open_smp(path: Path, mean: list[float] | None, std: list[float] | None) -> BlockNet:
    """A model that smp's `save_pretrained` wrote to a folder, as blocks.

    Raises:
        UserError: the folder holds no U-Net with a ResNet encoder, or is damaged.
    """
    try:
        with redirect_stdout(StringIO()):  # the hub's client prints where it found the weights
            model = smp.from_pretrained(str(path))
    except (OSError, KeyError, ValueError, RuntimeError, AttributeError, SafetensorError) as error:
        raise UserError(f"{path}: not a model that smp can open ({error})") from None
    try:
        return as_blocks(model, mean, std)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def open_weights(path: Path, network: dict[str, Any]) -> BlockNet:
    """A state dict or Lightning checkpoint in a network of this description, as blocks.

    Args:
        path: the file; a prefix that all keys carry is stripped.
        network: the arguments of `unet`.

    Raises:
        UserError: the file is unreadable or of another network.
    """
    weights = read_weights(path)
    head = [v for k, v in weights.items() if k.endswith("segmentation_head.0.bias")]
    outputs = len(head[0]) if head else network["classes"]
    network = network | {"classes": outputs}
    net = unet(**network)
    load_weights(net.model, weights, f"{path} as a U-Net with {network['encoder']}")
    return net


def describe(net: BlockNet, encoder: str, width: float = 1.0) -> dict[str, Any]:
    """The arguments of `unet` that give a network of this shape.

    Args:
        net: a U-Net as blocks.
        encoder: name of its encoder.
        width: factor of its encoder's channels.
    """
    model: Any = net.model
    blocks = list(model.decoder.blocks)
    return {
        "encoder": encoder,
        "classes": model.segmentation_head[0].out_channels,
        "channels": net.blocks["stem"].module[0].in_channels,
        "depth": len(blocks),
        "width": width,
        "decoder_channels": [block.conv1[0].out_channels for block in blocks],
        "convolutions": [1 if isinstance(block.conv2, nn.Identity) else 2 for block in blocks],
        "attention": "scse" if hasattr(blocks[0].attention1.attention, "sSE") else None,
        "interpolation": blocks[0].interpolation_mode,
        "mean": net.mean.flatten().tolist(),
        "std": net.std.flatten().tolist(),
    }


def smp_config(net: BlockNet, network: dict[str, Any]) -> dict[str, Any] | None:
    """What smp's `from_pretrained` rebuilds the network from; None where smp has no such network.

    Args:
        net: a U-Net as blocks.
        network: its description.
    """
    model: Any = net.model
    if network["width"] != 1 or 1 in network["convolutions"]:
        return None
    config = {k: v for k, v in model.config.items() if not k.startswith("_")}
    return {**config, "encoder_weights": None, "_model_class": type(model).__name__}
