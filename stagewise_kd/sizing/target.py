"""What a network may cost: a share of what it costs now, or a quantity with its unit."""

import re
from collections.abc import Mapping
from typing import Literal

from stagewise_kd.system.errors import UserError

# Checked before torch is imported: imports nothing heavy.

Kind = Literal["macs", "params", "latency"]
Target = tuple[Kind, float | str]
UNITS = {"macs": {"K": 1e3, "M": 1e6, "G": 1e9}, "latency": {"us": 1e-3, "ms": 1, "s": 1e3}}
UNITS["params"] = UNITS["macs"]


def target_of(given: Mapping[str, float | str | None], prefix: str = "") -> Target:
    """The one target that is given.

    Args:
        given: by kind of cost, None where there is none.
        prefix: of their names in messages.

    Raises:
        UserError: there is none, or several, or it is no share and no quantity.
    """
    asked = {kind: value for kind, value in given.items() if value is not None}
    if len(asked) != 1:
        told = ", ".join(f"{prefix}{kind}={value}" for kind, value in asked.items()) or "no target"
        raise UserError(f"{told}: give one of macs, params and latency, such as {prefix}macs=0.5")
    ((kind, value),) = asked.items()
    amount(kind, value, 1.0, prefix)
    return kind, value  # type: ignore[return-value]


def amount(kind: str, value: float | str, whole: float, prefix: str = "") -> float:
    """A target in the unit of its costs.

    Args:
        kind: of cost.
        value: a share of the whole, or a quantity with its unit: "300M", "8ms".
        whole: what the network costs.
        prefix: of the name of the kind in a message.
    """
    units = UNITS[kind]
    parts = re.fullmatch(r"([\d.eE+-]+?)\s*([a-zA-Z]*)", str(value).strip())
    unit = next((u for u in units if parts and u.lower() == parts[2].lower()), "")
    try:
        number = float(parts[1] if parts else "")
    except ValueError:
        number = -1.0
    if not parts or number <= 0 or (parts[2] and not unit) or (not unit and number > 1):
        example = "8ms" if "ms" in units else "5M"
        raise UserError(
            f"{prefix}{kind}={value}: give a share of the network's, above 0 and at most 1, or a "
            f"quantity with its unit, one of {', '.join(units)}: {prefix}{kind}={example}"
        )
    return number * units[unit] if unit else number * whole


def shown(kind: Kind, value: float) -> str:
    """A cost for a reader."""
    if kind == "latency":
        return f"{value:.2f} ms"
    return f"{value / 1e6:.2f}M {'MACs' if kind == 'macs' else 'parameters'}"
