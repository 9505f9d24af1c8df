"""U-Nets that others have saved: smp's own folders, and files of weights."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError

from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.recognizing import Shapes, choose, modules_of, nearest, shapes, under
from stagewise_kd.networks.resnet import DEPTHS
from stagewise_kd.networks.unet import as_blocks, unet
from stagewise_kd.system.checkpoints import read_weights
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.weights import load_weights


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


def open_weights(path: Path, network: dict[str, Any], prefix: str | None = None) -> BlockNet:
    """A state dict or Lightning checkpoint in a network of this description, as blocks.

    Args:
        path: the file.
        network: the arguments of `unet`.
        prefix: of the weights, where the file holds several networks; None: found.

    Raises:
        UserError: the file is unreadable or of another network.
    """
    weights = read_weights(path)
    wanted = network["encoder"]
    first = [v for k, v in weights.items() if k.endswith("encoder.conv1.weight")]
    inputs = first[0].shape[1] if first else network.get("channels", 3)
    shape = {"in_channels": inputs, "depth": network.get("depth", 5)}
    with torch.device("meta"):
        known = {name: _encoder(name, shape) for name in DEPTHS}
    found = choose(weights, known, wanted, prefix, str(path))
    own = nearest(weights, known[wanted]) if found is None else under(weights, found)
    if not own:
        raise UserError(
            f"{path}: this is {modules_of(weights)}; expected smp.Unet with a ResNet encoder, "
            f"teacher={'|'.join(DEPTHS)}; distill from any other network in Python: seg_kd.distill"
        )
    head = own.get("segmentation_head.0.bias")
    outputs = network["classes"] if head is None else len(head)
    net = unet(**network | {"classes": outputs, "channels": inputs})
    load_weights(net.model, own, f"{path} as a U-Net with {wanted}")
    return net


def _encoder(name: str, shape: dict[str, int]) -> Shapes:
    """The weights of an encoder as a U-Net names them."""
    body = shapes(smp.encoders.get_encoder(name, weights=None, **shape))
    return {f"encoder.{key}": size for key, size in body.items()}
