"""Shrinking from Python: a network and images in, a smaller network of its class out."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.loaders import Feed
from stagewise_kd.data.own_splits import Given, own_images
from stagewise_kd.networks.blocks import BlockNet, usual_norm
from stagewise_kd.networks.cutting import bare, known_cut
from stagewise_kd.networks.from_libraries import found_origin
from stagewise_kd.networks.origin import Origin
from stagewise_kd.networks.outputs import cannot_take, logits_of
from stagewise_kd.networks.shrunk import Recipe, cut_again, cuts, shrunk_origin
from stagewise_kd.runs.own_networks import Norm, column, values
from stagewise_kd.sizing.alternatives import Own, alternatives, on_device
from stagewise_kd.sizing.calls import device_of
from stagewise_kd.sizing.search import keep, repair, restored, scored, told, within
from stagewise_kd.sizing.target import target_of
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import path_of

MOST = 500  # images that alternatives are scored on,
MOST_BYTES = 2e9  # which take no more than these as float32
REPAIR_STEPS = 200


def shrink(
    model: nn.Module,
    images: Given | Tensor,
    *,
    macs: float | str | None = None,
    params: float | str | None = None,
    latency: float | str | None = None,
    repair_steps: int = REPAIR_STEPS,
    score_steps: int = 0,
    at: Sequence[str] | None = None,
    alternatives_of: Own | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
) -> nn.Module:
    """A smaller network that starts from the weights of a trained one, made without labels.

    Each repeated or residual block may be left out, or get 75, 50 or 25 % of its inner channels;
    in a network without any, two neighbouring layers get such a share of those between them. Each
    of these is scored alone in the network, by how far it moves the logits; those that together
    keep within the target at the least loss are chosen, and their blocks repaired.

    Args:
        model: the trained network; is left as it is. Where it lies its blocks are scored and timed.
        images: a map-style data set, a `DataLoader` over one, or a tensor (N, C, H, W), as
            `distill` takes them; at most 500 of them are used, labels never.
        macs: the target: a share of the network's multiply-adds, or a quantity such as "300M".
        params: or of its parameters: a share, or such as "5M".
        latency: or of its time for one image, where it lies: a share, or such as "8ms".
        repair_steps: of Adam for each block of the smaller network; 0 for none.
        score_steps: of a repair of each alternative before it is scored.
        at: names of the blocks; None: those that repeat or are residual, else neighbouring layers.
        alternatives_of: gives more alternatives of a block, (path, block) -> {name: module}.
        mean: per-channel mean of uint8 images in [0, 1]; None: ImageNet's of three channels.
        std: per-channel standard deviation, likewise.
        seed: of the choice of images and of their order.
        out: a folder that keeps scores and choice; the same call goes on with them.

    Returns:
        A network of the class of the given one, on its device, in eval mode; a `BlockNet` for one.

    Raises:
        UserError: no or several targets, one that nothing reaches, no images, no such block.
    """
    target = target_of({"macs": macs, "params": params, "latency": latency})
    for name, steps in (("repair_steps", repair_steps), ("score_steps", score_steps)):
        if not isinstance(steps, int) or steps < 0:
            raise UserError(f"{name}={steps}: give a whole number from 0 up")
    if not isinstance(model, nn.Module):
        raise UserError(f"model: a {type(model).__name__}; expected a network, a torch.nn.Module")
    place = device_of(model)
    copy = deepcopy(bare(model)).cpu().float().eval()
    net = copy.model if isinstance(copy, BlockNet) else copy
    taken = _as_taken(copy, images, Norm(mean, std), seed)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _check(net, taken)
    folder = None if out is None else path_of(out)
    with torch.random.fork_rng(devices=[]):
        seen, space = alternatives(net, taken[:2], at, alternatives_of)
        seen, space = on_device(seen, space, place)
        space, scores = scored(seen, space, taken, score_steps, seed, folder)
        smaller = within(seen, space, scores.kl, target, taken[:1])
        repair(seen, smaller, taken, repair_steps, seed)
        smaller = restored(net, replace(smaller, model=smaller.model.cpu()))
    if folder:
        keep(smaller, scores, folder)
    console.print("\n".join(told(smaller)), soft_wrap=True, highlight=False)
    found: Any = smaller.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    found = _with_origin(found.eval().requires_grad_(), smaller.recipe, copy, taken[:2])
    return found.to(place)


def most_images(shape: Sequence[int]) -> int:
    """How many images of a shape (C, H, W) alternatives are scored on."""
    return max(1, min(MOST, int(MOST_BYTES / 4 / math.prod(shape))))


def _with_origin(
    found: nn.Module, recipe: Recipe | None, whole: nn.Module, example: Tensor
) -> nn.Module:
    """The network, which `cut` can tell what rebuilds it; as blocks where the whole one was."""
    shape = tuple(example.shape[1:])
    built = whole.origin if isinstance(whole, BlockNet) else _built_by(whole, example)
    origin = None if recipe is None else shrunk_origin(built, recipe, found, shape)
    if isinstance(whole, BlockNet):
        again = cuts(built.arguments) if built and origin else {}
        return cut_again(found, whole, shape, origin, **again)
    if origin:
        found.origin = origin  # type: ignore[assignment]
    return found


def _built_by(whole: nn.Module, example: Tensor) -> Origin | None:
    norm = usual_norm(example.shape[1])
    if isinstance(carried := getattr(whole, "origin", None), Origin):  # of one that was shrunk
        return carried
    known = known_cut(whole)
    built = known(whole, *norm).origin if known else None
    return built or found_origin(whole, example, None, *norm)


def _as_taken(net: nn.Module, given: Given | Tensor, norm: Norm, seed: int) -> Tensor:
    """Some images as the network takes them."""
    shape = own_images(given, seed, 1)[0][0].shape
    samples = own_images(given, seed, most_images(shape))
    images, _ = Feed(samples).load(range(len(samples)))
    if images.is_floating_point() and (norm.mean or norm.std):
        raise UserError("mean, std: are those of uint8 images; float images are taken as they are")
    if isinstance(net, BlockNet) and not images.is_floating_point() and norm == (None, None):
        return (unit_images(images) - net.mean) / net.std
    mean, std = values(images, norm)
    return (unit_images(images) - column(mean)) / column(std)


def _check(net: nn.Module, images: Tensor) -> None:
    """See that the network takes the images and gives logits."""
    try:
        with torch.no_grad():
            logits = logits_of(net(images[:1]))
    except Exception as error:  # of the user's own network any
        raise cannot_take(type(net).__name__, images.shape[1:], error) from None
    if not isinstance(logits, Tensor) or logits.ndim not in (2, 4):
        kind = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"{type(net).__name__} gives {kind}; expected logits (B, K[, H, W])")
