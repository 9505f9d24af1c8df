"""The decoder of a shrunk U-Net: the usual one, one shrunk as the encoder was, or the teacher's."""

from collections.abc import Sequence
from typing import Any, Literal

from segmentation_models_pytorch.encoders import encoders

from stagewise_kd.networks.encoders import scaled
from stagewise_kd.networks.unet import WIDTHS
from stagewise_kd.system.errors import UserError

Decoder = Literal["default", "matched", "teacher"]


def decoder_shape(
    kind: Decoder, teacher: dict[str, Any], encoder: str, width: float
) -> dict[str, Any]:
    """Channels and convolutions of the student's decoder blocks, deepest first.

    Args:
        kind: "default" has smp's usual shape, "teacher" the teacher's, "matched" the rule below.
        teacher: description of the teacher: encoder, depth, decoder_channels, convolutions.
        encoder: the student's encoder.
        width: factor of the student's channels.

    Returns:
        "decoder_channels" and "convolutions", for `unet`.

    Raises:
        UserError: there is no decoder of that kind.
    """
    depth = teacher["depth"]
    if kind == "default":
        return {"decoder_channels": list(WIDTHS[:depth]), "convolutions": [2] * depth}
    if kind == "teacher":
        return {key: list(teacher[key]) for key in ("decoder_channels", "convolutions")}
    if kind == "matched":
        return matched(teacher, encoder, width)
    raise UserError(f"decoder.name={kind}: give default, matched or teacher")


def matched(teacher: dict[str, Any], encoder: str, width: float) -> dict[str, Any]:
    """Shrink the teacher's decoder as its encoder was shrunk.

    A decoder block keeps one of its two convolutions where the encoder stage of its resolution
    lost half or more of its residual blocks: decoder0 of depth 5 goes by layer3, decoder1 by
    layer2, decoder2 by layer1. The blocks at the resolutions of the stem and of the image have no
    such stage and go by the encoder as a whole. Channels are scaled by the width factor.
    """
    depth = teacher["depth"]
    before, after = (
        encoders[name]["params"]["layers"][: depth - 1] for name in (teacher["encoder"], encoder)
    )
    whole = (sum(before), sum(after))
    stages: Sequence[tuple[int, int]] = list(zip(before, after, strict=True))[-2::-1]
    pairs = [*stages, whole, whole]
    return {
        "decoder_channels": [scaled(c, width) for c in teacher["decoder_channels"]],
        "convolutions": [
            1 if 2 * kept <= had else count
            for (had, kept), count in zip(pairs, teacher["convolutions"], strict=True)
        ],
    }


def describe(shape: dict[str, Any]) -> str:
    """One line that tells what a decoder is made of."""
    blocks = zip(shape["decoder_channels"], shape["convolutions"], strict=True)
    return ", ".join(f"decoder{i} {n}×conv {c}" for i, (c, n) in enumerate(blocks))
