"""What a network loses at each of several sizes, as its scores predict it and as it is measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stagewise_kd.networks.outputs import logits_of
from stagewise_kd.sizing.alternatives import KEEP, Choices
from stagewise_kd.sizing.calls import device_of
from stagewise_kd.sizing.choice import Losses, frontier
from stagewise_kd.sizing.costs import Costs
from stagewise_kd.sizing.scores import batch_size, divergence
from stagewise_kd.sizing.search import built, progress

SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1)


@dataclass(frozen=True)
class Point:
    """A size.

    Args:
        cost: of the network.
        share: of the whole network's cost.
        predicted: loss, the sum of the scores of its alternatives.
        measured: divergence of its logits from the whole network's, before any training.
        agreement: share of images, or pixels, of which both choose the same class.
        changed: how many of its blocks are left out or narrower.
    """

    cost: float
    share: float
    predicted: float
    measured: float
    agreement: float
    changed: int


def points(
    model: nn.Module,
    space: Sequence[Choices],
    losses: Losses,
    costs: Costs,
    images: Tensor,
    shares: Sequence[float] = SHARES,
) -> list[Point]:
    """The best networks of several sizes, those that there are, the largest first.

    Args:
        model: the whole network, in eval mode.
        space: its blocks and their alternatives.
        losses: of the alternatives.
        costs: likewise.
        images: to measure with, as the model takes them, (N, C, H, W).
        shares: the most that each may cost, of the whole.
    """
    choices = frontier(costs, losses, shares)
    sums = torch.zeros(len(choices), 2)
    with progress("measuring sizes") as note, torch.no_grad():
        for done, part in enumerate(parts := torch.split(images, batch_size(images))):
            note(done, len(parts))
            part = part.to(device_of(model))
            wanted = logits_of(model(part))
            for row, choice in zip(sums, choices, strict=True):
                smaller = built(model, space, choice, costs).model
                row += len(part) * _apart(logits_of(smaller(part)), wanted)
    found = []
    for (loss, same), choice in zip((sums / len(images)).tolist(), choices, strict=True):
        changed = sum(name != KEEP for name in choice.chosen.values())
        share = choice.cost / costs.whole
        found.append(Point(choice.cost, share, choice.loss, loss, same, changed))
    return found


def _apart(logits: Tensor, wanted: Tensor) -> Tensor:
    """Divergence of logits from others, and the share of which both choose the same class."""
    same = (logits.argmax(1) == wanted.argmax(1)).float().mean()
    return torch.stack([divergence(logits, wanted), same]).cpu()
