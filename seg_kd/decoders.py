"""The student's decoder: as `model` has it, shrunk as the encoder was, or the teacher's."""

from collections.abc import Sequence
from statistics import median
from typing import Any, Literal

from stagewise_kd.networks.encoders import depths, feature_widths, scaled
from stagewise_kd.networks.segmenters import depth_of, is_width, usual_channels
from stagewise_kd.system.errors import UserError

GROUP = 32  # channels
Decoder = Literal["default", "matched", "teacher"]
Network = dict[str, Any]  # the arguments of `segmenter`


def decoder_shape(kind: Decoder, teacher: Network, encoder: str, width: float) -> Network:
    """The arguments and the convolutions of the student's decoder.

    Args:
        kind: "default" has smp's usual channels, "teacher" the teacher's, "matched" the rule below.
        teacher: what builds the teacher.
        encoder: the student's encoder.
        width: factor of the student's channels.

    Returns:
        "arguments" and "convolutions", for `segmenter`.

    Raises:
        UserError: there is no decoder of that kind.
    """
    arguments = teacher["arguments"]
    if kind == "default":
        usual = usual_channels(teacher["model"], arguments)
        return {"arguments": arguments | usual, "convolutions": None}
    if kind == "teacher":
        return {key: teacher[key] for key in ("arguments", "convolutions")}
    if kind == "matched":
        return matched(teacher, encoder, width)
    raise UserError(f"decoder.name={kind}: give default, matched or teacher")


def matched(teacher: Network, encoder: str, width: float) -> Network:
    """Shrink the teacher's decoder as its encoder was shrunk.

    Channels of a decoder block are scaled by the widths of the encoders' features of its
    resolution, student's by teacher's and at most 1: decoder0 of depth 5 goes by layer3, decoder1
    by layer2, decoder2 by layer1, decoder3 and decoder4 by the stem. Where one of the encoders has
    none of that resolution, the next smaller one counts. Channels of a whole decoder are scaled by
    the median of these factors, to a multiple of 32, in which smp normalizes some.

    A decoder block keeps one of its two convolutions where the encoder stage of its resolution
    lost half or more of its residual blocks; the blocks at the resolutions of the stem and of the
    image have no such stage and go by the encoder as a whole. Encoders other than ResNets keep
    the teacher's convolutions.
    """
    depth = depth_of(teacher["model"], teacher["arguments"])
    ours = feature_widths(encoder, width, depth)
    theirs = feature_widths(teacher["encoder"], teacher["width"], depth)
    channels = usual_channels(teacher["model"], teacher["arguments"]) | teacher["arguments"]
    shrunk = {
        name: _scaled(value, ours[1:], theirs[1:])
        for name, value in channels.items()
        if is_width(name)
    }
    return {
        "arguments": teacher["arguments"] | shrunk,
        "convolutions": _convolutions(teacher, encoder, depth),
    }


def _scaled(
    channels: int | Sequence[int], ours: Sequence[int], theirs: Sequence[int]
) -> int | list[int]:
    """Channels of a decoder by the widths of features from the stem down."""
    factors = [_factor(ours, theirs, place) for place in range(len(ours))]
    if isinstance(channels, int):
        return max(GROUP, GROUP * round(channels * median(factors) / GROUP))
    own = [*factors[-2::-1], factors[0]]
    return [scaled(count, factor) for count, factor in zip(channels, own, strict=True)]


def _factor(ours: Sequence[int], theirs: Sequence[int], place: int) -> float:
    """Student's width by teacher's where both have a feature, from a place on."""
    pairs = list(zip(ours, theirs, strict=True))[place:]
    return min(1.0, next(own / other for own, other in pairs if own and other))


def _convolutions(teacher: Network, encoder: str, depth: int) -> list[int] | None:
    had, kept = (depths(name) for name in (teacher["encoder"], encoder))
    counts: list[int] | None = teacher["convolutions"]
    if counts is None or had is None or kept is None:
        return counts
    before, after = had[: depth - 1], kept[: depth - 1]
    whole = (sum(before), sum(after))
    pairs = [*list(zip(before, after, strict=True))[-2::-1], whole, whole]
    return [
        1 if 2 * now <= once else count for (once, now), count in zip(pairs, counts, strict=True)
    ]


def describe(network: Network) -> str:
    """What a decoder is made of; empty of one whose channels are the encoder's."""
    widths = {name: value for name, value in network["arguments"].items() if is_width(name)}
    counts = network["convolutions"]
    if counts is None or "decoder_channels" not in widths:
        return ", ".join(f"{name} {value}" for name, value in widths.items())
    blocks = zip(widths["decoder_channels"], counts, strict=True)
    return ", ".join(f"decoder{i} {n}×conv {c}" for i, (c, n) in enumerate(blocks))
