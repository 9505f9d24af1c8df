"""The best alternative of each block within a target: a multiple-choice knapsack."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from stagewise_kd.sizing.costs import Costs, Kind
from stagewise_kd.system.errors import UserError

Losses = Mapping[str, Mapping[str, float]]  # by path of a block and name of an alternative
UNITS = {"macs": {"K": 1e3, "M": 1e6, "G": 1e9}, "latency": {"us": 1e-3, "ms": 1, "s": 1e3}}
UNITS["params"] = UNITS["macs"]
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
    """The choices for several targets, shares of the network's cost; those that there are."""
    found = [choose(costs, losses, share * costs.whole) for share in targets]
    return [choice for choice in found if choice is not None]


def target_of(given: Mapping[str, float | str | None]) -> tuple[Kind, float | str]:
    """The one target that is given.

    Raises:
        UserError: there is none, or several, or it is no share and no quantity.
    """
    asked = {kind: value for kind, value in given.items() if value is not None}
    if len(asked) != 1:
        told = ", ".join(f"{kind}={value}" for kind, value in asked.items()) or "no target"
        raise UserError(f"{told}: give one of macs, params and latency, such as macs=0.5")
    ((kind, value),) = asked.items()
    amount(kind, value, 1.0)
    return kind, value  # type: ignore[return-value]


def amount(kind: str, value: float | str, whole: float) -> float:
    """A target in the unit of its costs.

    Args:
        kind: of cost.
        value: a share of the whole, or a quantity with its unit: "300M", "8ms".
        whole: what the network costs.
    """
    units = UNITS[kind]
    parts = re.fullmatch(r"([\d.eE+-]+?)\s*([a-zA-Z]*)", str(value).strip())
    unit = next((u for u in units if parts and u.lower() == parts[2].lower()), "")
    try:
        number = float(parts[1] if parts else "")
    except ValueError:
        number = -1.0
    if not parts or number <= 0 or (parts[2] and not unit) or (not unit and number > 1):
        raise UserError(
            f"{kind}={value}: give a share of the network's, above 0 and at most 1, or a quantity "
            f"with its unit, one of {', '.join(units)}: {kind}={'8ms' if 'ms' in units else '5M'}"
        )
    return number * units[unit] if unit else number * whole


def shown(kind: Kind, value: float) -> str:
    """A cost for a reader."""
    if kind == "latency":
        return f"{value:.2f} ms"
    return f"{value / 1e6:.2f}M {'MACs' if kind == 'macs' else 'parameters'}"


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
            f"{costs.kind}={share:.3g} or more"
        )
    return found
