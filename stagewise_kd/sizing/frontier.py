"""What a network loses at each of several sizes, as its scores predict it and as it is measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stagewise_kd.networks.outputs import logits_of
from stagewise_kd.sizing.alternatives import KEEP, Choices
from stagewise_kd.sizing.choice import Losses, frontier
from stagewise_kd.sizing.costs import Costs
from stagewise_kd.sizing.scores import divergence
from stagewise_kd.sizing.search import built, progress

SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1)
BATCH = 50


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
    found = []
    wanted = _logits(model, images)
    choices = frontier(costs, losses, shares)
    with progress("measuring sizes") as note:
        for done, choice in enumerate(choices):
            note(done, len(choices))
            logits = _logits(built(model, space, choice, costs).model, images)
            same = (logits.argmax(1) == wanted.argmax(1)).float().mean()
            changed = sum(name != KEEP for name in choice.chosen.values())
            figures = (choice.cost / costs.whole, choice.loss, float(divergence(logits, wanted)))
            found.append(Point(choice.cost, *figures, float(same), changed))
    return found


@torch.inference_mode()
def _logits(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([logits_of(model(part)) for part in torch.split(images, BATCH)])
