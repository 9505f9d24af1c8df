"""Numbers by which networks are told apart."""

import hashlib

import torch
from torch import nn

from stagewise_kd.networks.blocks import BlockNet


def architecture_hash(net: BlockNet) -> str:
    """A number for a network but its weights and normalization, by what rebuilds it or its print.

    Networks of equal hash take equally long for an image.
    """
    if net.origin is None or net.origin.build is None:
        told = f"{type(net.model).__module__}.{net.model!r}"
    else:
        norm = ("mean", "std")
        shape = {k: v for k, v in sorted(net.origin.arguments.items()) if k not in norm}
        told = f"{net.origin.build} {shape}"
    return hashlib.sha256(told.encode()).hexdigest()


def weights_hash(module: nn.Module) -> str:
    """A number for all weights and buffers of a module: equal weights, equal hash."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
