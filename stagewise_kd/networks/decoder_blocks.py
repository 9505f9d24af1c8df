"""Decoders of segmentation-models-pytorch as blocks."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder
from segmentation_models_pytorch.decoders.manet.decoder import MAnetDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from stagewise_kd.networks.blocks import Block

CHAINS = (UnetDecoder, MAnetDecoder, LinknetDecoder)  # lists of blocks, each with a skip
SIDE = 512  # pixels of the image for which a decoder is asked what it reads: enough for any


class Up(nn.Module):
    """A decoder block of smp that takes the feature below and the skip, where there is one.

    Args:
        block: of a decoder in `CHAINS`.
        sized: whether it is told height and width.
        empty: whether it is given a skip without channels.
        before: what the feature below goes through first.
    """

    def __init__(
        self, block: nn.Module, sized: bool, empty: bool, before: nn.Module | None
    ) -> None:
        super().__init__()
        self.block = block
        self.before = before
        self.sized = sized
        self.empty = empty

    def forward(self, below: Tensor, skip: Tensor | None = None) -> Tensor:
        """Features (B, C, H, W), skip (B, S, 2H, 2W), to (B, D, 2H, 2W)."""
        x = below if self.before is None else self.before(below)
        side = skip.shape[-2:] if skip is not None else [2 * n for n in below.shape[-2:]]
        if self.empty:  # joined for the memory format, on which the rounding depends
            skip = below.new_empty(len(below), 0, *side)
        found: Tensor = self.block(x, *side, skip) if self.sized else self.block(x, skip)
        return found


class Fusion(nn.Module):
    """A whole decoder of smp that takes those of the encoder's features that it reads."""

    def __init__(self, decoder: nn.Module, places: Sequence[int]) -> None:
        super().__init__()
        self.decoder = decoder
        self.places = tuple(places)

    def forward(self, *features: Tensor) -> Tensor:
        """Features (B, C, H, W) of these places of the encoder's list, to (B, D, H', W')."""
        known = dict(zip(self.places, features, strict=True))
        listed = [
            known[place] if place in known else self._empty(known, place)
            for place in range(max(known) + 1)
        ]
        found: Tensor = self.decoder(listed)
        return found

    def _empty(self, known: dict[int, Tensor], place: int) -> Tensor:
        """A feature without channels, as wide as its place tells."""
        deeper = min(other for other in known if other > place)
        size, n, *sides = 2 ** (deeper - place), *known[deeper].shape
        return known[deeper].new_empty(n, 0, *(size * side for side in sides[1:]))


def decoder_blocks(model: Any, stages: Sequence[Block | None]) -> list[Block]:
    """The decoder of a model of smp: block by block where each has a skip, else as one block.

    Args:
        model: the network.
        stages: the blocks of its encoder's features; None for one without a block.
    """
    decoder = model.decoder
    names = [stage.name if stage else None for stage in stages]
    if isinstance(decoder, CHAINS):
        return _chain(decoder, names)
    places = [place for place in _read_by(model) if names[place]]
    reads = tuple(name for place in places if (name := names[place]))
    return [Block("decoder0", Fusion(decoder, places), reads, "decoder")]


def _chain(decoder: Any, names: Sequence[str | None]) -> list[Block]:
    skips = [*names[-2:0:-1], None]
    center = getattr(decoder, "center", nn.Identity())
    before = None if isinstance(center, nn.Identity) else center
    found: list[Block] = []
    for index, (block, skip) in enumerate(zip(decoder.blocks, skips, strict=True)):
        below = found[-1].name if found else names[-1]
        reads = tuple(name for name in (below, skip) if name)
        empty = skip is None and index < len(names) - 2
        up = Up(block, isinstance(decoder, UnetDecoder), empty, None if found else before)
        found.append(Block(f"decoder{index}", up, reads, "decoder"))
    return found


def _read_by(model: Any) -> list[int]:
    """The places of the features that a decoder computes from, told by their gradients."""
    encoder, decoder = model.encoder, deepcopy(model.decoder).to("meta").eval()
    strides = [min(2**place, encoder.output_stride) for place in range(len(encoder.out_channels))]
    features = [
        torch.empty(1, width, SIDE // stride, SIDE // stride, device="meta", requires_grad=True)
        for width, stride in zip(encoder.out_channels, strides, strict=True)
    ]
    with torch.inference_mode(False), torch.enable_grad():
        decoder(list(features)).sum().backward()
    return [place for place, feature in enumerate(features) if feature.grad is not None]
