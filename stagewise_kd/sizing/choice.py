"""The best alternative of each block within a target: a multiple-choice knapsack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from stagewise_kd.sizing.costs import Costs
from stagewise_kd.sizing.target import shown
from stagewise_kd.system.errors import UserError

Losses = Mapping[str, Mapping[str, float]]  # by path of a block and name of an alternative
SLACK = 1e-9  # of a cost, for rounding


@dataclass(frozen=True)
class Choice:
    """An alternative of each block.

    Args:
        chosen: names of alternatives by path of the block.
        cost: of the network with them.
        loss: predicted, the sum of theirs.
    """

    chosen: dict[str, str]
    cost: float
    loss: float


def choose(costs: Costs, losses: Losses, most: float) -> Choice | None:
    """The alternatives of least loss whose costs add up to a target at most; None: there are none.

    Args:
        costs: of all alternatives.
        losses: likewise; they add up.
        most: what the network may cost.
    """
    pairs = [(path, name) for path, found in costs.blocks.items() for name in found]
    loss = np.array([losses[path][name] for path, name in pairs])
    cost = np.array([costs.blocks[path][name] for path, name in pairs])
    of_block = np.array([[path == block for path, _ in pairs] for block in costs.blocks], float)
    scale = costs.whole  # numbers near one, whatever the unit
    room = (most - costs.rest) / scale + SLACK
    found = milp(
        loss / max(loss.max(), 1e-12),
        integrality=np.ones(len(pairs)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(of_block, 1, 1),
            LinearConstraint(cost / scale, -np.inf, room),
        ],
    )
    if found.x is None:
        return None
    chosen = dict(pair for pair, taken in zip(pairs, found.x, strict=True) if taken > 0.5)
    return choice_of(costs, losses, chosen)


def choice_of(costs: Costs, losses: Losses, chosen: dict[str, str]) -> Choice:
    """What some alternatives cost, and the loss that they predict."""
    loss = sum(losses[path][name] for path, name in chosen.items())
    return Choice(chosen, costs.total(chosen), loss)


def smallest(costs: Costs) -> float:
    """What the network costs with the cheapest alternative of each block."""
    cheapest = {path: min(found, key=found.__getitem__) for path, found in costs.blocks.items()}
    return costs.total(cheapest)


def frontier(costs: Costs, losses: Losses, targets: Sequence[float]) -> list[Choice]:
    """The choices for several targets, shares of the network's cost; those that there are, once."""
    found = [choose(costs, losses, share * costs.whole) for share in targets]
    return [*{tuple(choice.chosen.values()): choice for choice in found if choice}.values()]


def reached(costs: Costs, losses: Losses, most: float, asked: str) -> Choice:
    """The choice within a target.

    Raises:
        UserError: nothing is that small; says what is.
    """
    found = choose(costs, losses, most)
    if found is None:
        least = smallest(costs)
        share = np.ceil(1000 * least / costs.whole) / 1000
        raise UserError(
            f"{asked}: nothing is that small; with the cheapest alternative of every block the "
            f"network has {shown(costs.kind, least)} of {shown(costs.kind, costs.whole)}: give "
            f"{asked.partition('=')[0]}={share:.3g} or more"
        )
    return found
