"""A user's own networks as blocks."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.loaders import Data, Feed
from stagewise_kd.methods.method import Method, about, takes
from stagewise_kd.networks.blocks import IMAGE, Block, BlockNet, usual_norm
from stagewise_kd.networks.cutting import bare, cut, known_cut, origin_of
from stagewise_kd.networks.from_libraries import found_origin
from stagewise_kd.networks.headed import with_head
from stagewise_kd.networks.outputs import Logits, cannot_take
from stagewise_kd.system.errors import UserError

At = Sequence[str] | Sequence[Sequence[str]] | None


class Norm(NamedTuple):
    """Per-channel mean and standard deviation of uint8 images in [0, 1], as far as given."""

    mean: Sequence[float] | None
    std: Sequence[float] | None


def own_networks(
    student: nn.Module,
    teacher: nn.Module | None,
    data: Data,
    at: At,
    norm: Norm,
    method: Method,
    head: str | None,
) -> tuple[BlockNet, BlockNet | None]:
    """Copies of both networks as blocks, in float32.

    Args:
        student: the network to train.
        teacher: the trained one, or None.
        data: what they take.
        at: where to cut both, or each.
        norm: of uint8 images; of float ones there is none.
        method: one that matches no features needs no blocks of a network that is not known.
        head: "teacher": the student keeps the teacher's head.

    Raises:
        UserError: a network cannot be cut, or the normalization does not fit the images.
    """
    images, _ = Feed(data.val).load([0])
    if images.is_floating_point() and norm != (None, None):
        raise UserError("mean, std: are those of uint8 images; float images are taken as they are")
    ends = _each(at)
    keeps = head == "teacher" or about(method).keeps_head
    cuts = takes(method, "match") or keeps
    ours, theirs = (
        None if net is None else _as_blocks(net, images, names, norm, cuts, who)
        for net, names, who in zip((student, teacher), ends, ("student", "teacher"), strict=True)
    )
    assert ours is not None
    if theirs and keeps:
        ours = with_head(ours, theirs, data.shape)
    return ours, theirs


def _each(at: At) -> tuple[Sequence[str] | None, Sequence[str] | None]:
    """Where to cut the student, and where the teacher."""
    if isinstance(at, str):
        raise UserError(f"at={at!r}: give a list of names, such as [{at!r}]")
    if at is None or all(isinstance(name, str) for name in at):
        return at, at  # type: ignore[return-value]
    if len(at) != 2:
        raise UserError(f"at={at}: give names of modules, or a pair of such lists")
    return at[0], at[1]


def _as_blocks(
    net: nn.Module,
    images: Tensor,
    at: Sequence[str] | None,
    norm: Norm,
    cuts: bool,
    who: str,
) -> BlockNet:
    if not isinstance(net, nn.Module):
        raise UserError(f"{who}: a {type(net).__name__}; expected a network, a torch.nn.Module")
    copy = deepcopy(bare(net)).cpu().float()
    if isinstance(copy, BlockNet):
        return _normalized(copy, images, norm)
    copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean, std = values(images, norm)
    example = (unit_images(images) - column(mean)) / column(std)
    example = example.expand(2, -1, -1, -1)
    try:
        if at is None and not (cuts or known_cut(copy)):
            found = BlockNet(copy, [Block("model", Logits(copy), (IMAGE,), "head")], mean, std)
        else:
            found = cut(copy, example, at, mean=mean, std=std)
        origin = found.origin or origin_of(found, example)
        found.origin = origin or found_origin(copy, example, at, mean, std)
    except UserError as error:
        raise UserError(f"{who}: {error}") from None
    return found


def _normalized(net: BlockNet, images: Tensor, norm: Norm) -> BlockNet:
    """A network of blocks, with its own normalization unless images need another or none."""
    if images.is_floating_point() or norm != (None, None):
        mean, std = values(images, norm)
        net.register_buffer("mean", column(mean), persistent=False)
        net.register_buffer("std", column(std), persistent=False)
    return net


def values(images: Tensor, norm: Norm) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of images: as given, else the usual; of float ones none."""
    channels = images.shape[1]
    if images.is_floating_point():
        return (0.0,) * channels, (1.0,) * channels
    mean, std = (
        default if given is None else given
        for given, default in zip(norm, usual_norm(channels), strict=True)
    )
    if not len(mean) == len(std) == channels or min(std) <= 0:
        raise UserError(
            f"mean={mean}, std={std}: give one number for each of {channels} channels, std above 0"
        )
    return mean, std


def column(values: Sequence[float]) -> Tensor:
    """A number for each channel, as images are normalized by it."""
    return torch.tensor(values).view(-1, 1, 1)


def classes_of(student: BlockNet, teacher: BlockNet | None, shape: tuple[int, ...]) -> int:
    """How many classes the networks tell apart, by a dry run that measures their features, too.

    Raises:
        UserError: they cannot take the images, give no logits, or differ in their classes.
    """
    nets = [net for net in (student, teacher) if net is not None]
    counts = [_logits(net, shape).shape[1] for net in nets]
    measure(nets, shape)
    if len({*counts}) > 1:
        raise UserError(
            f"the student tells {counts[0]} classes apart, the teacher {counts[1]}; build the "
            f"student with {counts[1]}"
        )
    return int(counts[0])


def measure(nets: Sequence[BlockNet], shape: tuple[int, ...]) -> None:
    """Find the shapes of the features of networks for images (C, H, W).

    Raises:
        UserError: a network cannot take them.
    """
    for net in nets:
        try:
            net.measure(shape)
        except Exception as error:  # of the network's own code any
            raise cannot_take(name_of(net), shape, error) from None


def _logits(net: BlockNet, shape: tuple[int, ...]) -> Tensor:
    try:
        with torch.no_grad():
            logits: Any = net.eval()(torch.zeros(2, *shape))
    except Exception as error:  # of the user's own network any
        raise cannot_take(name_of(net), shape, error) from None
    if not isinstance(logits, Tensor) or logits.ndim not in (2, 4):
        kind = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"{name_of(net)} gives {kind}; expected logits (B, K) or (B, K, H, W)")
    if logits.ndim == 4 and logits.shape[2:] != shape[1:]:
        raise UserError(
            f"{name_of(net)} gives {tuple(logits.shape[2:])} for images of {tuple(shape[1:])}; "
            "give images whose sides it keeps, often multiples of 32, or the network in a module "
            "that scales its logits up"
        )
    return logits


def name_of(net: BlockNet) -> str:
    """The name by which a network is built, or of its class."""
    known = net.origin.arguments if net.origin else {}
    return str(known.get("name") or known.get("encoder") or type(net.model).__name__)
