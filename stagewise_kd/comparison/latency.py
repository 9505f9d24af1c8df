"""Latencies of equal networks, which runs have recorded on a machine that was busy or not."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from stagewise_kd.comparison.runs import Group, Run

NOTICED = 1.2  # times the least figure; figures of an idle machine lie within


def least(groups: Sequence[Group]) -> list[Group]:
    """The groups, with the least latency recorded of a network in place of each of its own.

    Whatever else a machine does adds to a latency, and nothing takes from it.
    """
    found = _recorded(groups)
    return [
        replace(group, runs=tuple(_with_least(run, found) for run in group.runs))
        for group in groups
    ]


def differing(groups: Sequence[Group]) -> list[str]:
    """A line for each network of which far other latencies than the least were recorded."""
    found = _recorded(groups)
    names = {
        _key(run, role): run.result[role]
        for group in groups
        for run in group.runs
        for role in _roles(run)
    }
    return [
        f"{names[key]} {min(figures):.4g} to {max(figures):.4g} ms"
        for key, figures in found.items()
        if max(figures) > NOTICED * min(figures)
    ]


def _recorded(groups: Sequence[Group]) -> dict[Any, list[float]]:
    found: dict[Any, list[float]] = {}
    for run in (run for group in groups for run in group.runs):
        for role in _roles(run):
            found.setdefault(_key(run, role), []).append(run.result["cost"][role]["latency_ms"])
    return found


def _key(run: Run, role: str) -> Any:
    """What networks of one latency share: what rebuilds them, the images' size, the device."""
    cost = run.result["cost"]
    return (run.architectures.get(role, run.path), cost[role]["macs"], cost["device"])


def _roles(run: Run) -> list[str]:
    return [role for role in ("student", "teacher") if role in run.result["cost"]]


def _with_least(run: Run, found: dict[Any, list[float]]) -> Run:
    cost = run.result["cost"]
    changed = {
        role: cost[role] | {"latency_ms": min(found[_key(run, role)])} for role in _roles(run)
    }
    return replace(run, result=run.result | {"cost": cost | changed})
