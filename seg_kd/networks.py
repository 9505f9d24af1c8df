"""U-Nets that others have saved: smp's own folders, and files of weights."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
from safetensors import SafetensorError

from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.unet import as_blocks, unet
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.weights import load_weights, read_weights


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
    first = [v for k, v in weights.items() if k.endswith("encoder.conv1.weight")]
    inputs = first[0].shape[1] if first else network["channels"]
    network = network | {"classes": outputs, "channels": inputs}
    net = unet(**network)
    load_weights(net.model, weights, f"{path} as a U-Net with {network['encoder']}")
    return net
