"""A plan, and the values in it, as plain text that tells one from another."""

import hashlib
import re
from collections.abc import Iterable
from functools import partial
from types import CodeType
from typing import Any

from stagewise_kd.methods.plan import Plan, Stage, Term
from stagewise_kd.networks.blocks import LOGITS
from stagewise_kd.system.errors import UserError

ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # other in every process


def as_plan(found: Any) -> Plan:
    """What a method returned, as a plan.

    Raises:
        UserError: it is none.
    """
    given = (found,) if isinstance(found, Stage) else found
    stages = [*given] if isinstance(given, Iterable) else [given]
    if not all(isinstance(stage, Stage) for stage in stages):
        raise UserError(f"the method gave a {type(found).__name__}; expected a tuple of stages")
    return tuple(stages)


def outline(stage: Stage) -> dict[str, Any]:
    """A stage as plain values: what it trains against what, and what tells how far a run is."""
    return {
        "name": stage.name,
        **({"epochs": stage.epochs} if stage.steps is None else {"steps": stage.steps}),
        "monitor": stage.monitor.name,
        "mode": stage.monitor.mode,
        "least": stage.monitor.least,
        "trains": list(stage.trains),
        "terms": [_term(term) for term in stage.terms],
        "cut": stage.cut,
        "fed": stage.fed,
        "match": [list(pair) for pair in stage.match],
        "norm": stage.norm,
        **({} if stage.patience is None else {"patience": stage.patience}),
    }


def matches(plan: Plan) -> list[tuple[Stage, Term, int]]:
    """The pairs of features that are matched: each by its stage, its term, and its place there."""
    return [
        (stage, term, place)
        for stage in plan
        for term in stage.terms
        for place, (_, theirs) in enumerate(term.pairs)
        if theirs != LOGITS
    ]


def brief(plan: Plan) -> list[str]:
    """A line of what the student learns from the teacher's features, and what from labels."""
    found = dict.fromkeys(term.pairs[place] for _, term, place in matches(plan))
    pairs = [ours if ours == theirs else f"{ours} ← {theirs}" for ours, theirs in found]
    named = [name for stage in plan if stage.sees_labels for name in stage.trains]
    rest = [name for name in dict.fromkeys(named) if name not in {ours for ours, _ in found}]
    parts = [f"the teacher's features: {', '.join(pairs)}"] if pairs else []
    parts += [f"on labels: {', '.join(rest)}"] if pairs and rest else []
    return ["; ".join(parts)] if parts else []


def _term(term: Term) -> list[Any]:
    sides = told(term.student), told(term.teacher)
    return [
        *(term.name, told(term.loss), *sides, term.weight, told(term.adapter)),
        *(["resize"] if term.resize else []),
        *([["through", told(term.through)]] if term.through is not None else []),
        *(["labels"] if term.labels else []),
    ]


def told(value: Any) -> Any:
    """A value of a plan or an option as plain values; of a function its name and what it does."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [told(item) for item in value]
    if isinstance(value, dict):
        return {str(key): told(item) for key, item in value.items()}
    if isinstance(value, partial):
        return [told(value.func), told(value.args), told(value.keywords)]
    name = getattr(value, "__qualname__", None)
    if name is None:
        return ADDRESS.sub("", repr(value))
    code = getattr(value, "__code__", None)
    return f"{value.__module__}.{name}" + (f" {_digest(code)}" if code else "")


def _digest(code: CodeType) -> str:
    """A number for what a function does, wherever it stands."""
    inner = [_digest(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return hashlib.sha256(repr((code.co_code, code.co_names, inner)).encode()).hexdigest()[:8]
