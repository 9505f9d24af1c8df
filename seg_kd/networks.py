"""Networks that others have saved: smp's own folders, and files of weights."""

import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
from safetensors import SafetensorError
from torch import nn

from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.encoders import meta_encoder
from stagewise_kd.networks.recognizing import Shapes, choose, modules_of, nearest, shapes, under
from stagewise_kd.networks.resnet import DEPTHS
from stagewise_kd.networks.segmenters import CLASSES, as_blocks, depth_of, segmenter
from stagewise_kd.system.checkpoints import read_weights
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.weights import load_weights


def open_smp(path: Path, mean: list[float] | None, std: list[float] | None) -> BlockNet:
    """A model that smp's `save_pretrained` wrote to a folder, as blocks.

    Raises:
        UserError: the folder holds no network of smp, or is damaged.
    """
    try:
        # the hub's client prints where it found the weights
        with redirect_stdout(StringIO()), warnings.catch_warnings(action="ignore"):
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
        network: the arguments of `segmenter`.
        prefix: of the weights, where the file holds several networks; None: found.

    Raises:
        UserError: the file is unreadable or of another network.
    """
    weights = read_weights(path)
    wanted, kind = network["encoder"], network["model"]
    whole = segmenter(**network).model
    inputs = _channels(weights, whole) or network["channels"]
    known = {name: _encoder(network, name, inputs) for name in {wanted: None, **DEPTHS}}
    found = choose(weights, known, wanted, prefix, str(path))
    own = nearest(weights, known[wanted]) if found is None else under(weights, found)
    if not own:
        raise UserError(
            f"{path}: this is {modules_of(weights)}; expected smp.{CLASSES[kind].__name__} over "
            f"{wanted}; set model= and teacher= to what it is, or distill from any other network "
            "in Python: seg_kd.distill"
        )
    head = own.get("segmentation_head.0.bias")
    outputs = network["classes"] if head is None else len(head)
    net = segmenter(**network | {"classes": outputs, "channels": inputs})
    load_weights(net.model, own, f"{path} as smp.{CLASSES[kind].__name__} over {wanted}")
    return net


def _channels(weights: dict[str, Any], whole: nn.Module) -> int | None:
    """How many channels of an image the first convolution of a checkpoint reads."""
    state = whole.state_dict()
    first = next(name for name, value in state.items() if value.ndim == 4)
    return next((v.shape[1] for k, v in weights.items() if k.endswith(first)), None)


def _encoder(network: dict[str, Any], name: str, channels: int) -> Shapes:
    """The weights of an encoder as a network of smp names them."""
    depth = depth_of(network["model"], network["arguments"])
    body = shapes(meta_encoder(name, in_channels=channels, depth=depth))
    return {f"encoder.{key}": size for key, size in body.items()}
