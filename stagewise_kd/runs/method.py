"""The method that a config names."""

from dataclasses import replace
from itertools import pairwise

from hydra.utils import get_method

from stagewise_kd.methods.method import Method, about
from stagewise_kd.methods.plan import Plan
from stagewise_kd.system.names import Config


def method_of(config: Config) -> Method:
    """The function that makes the plan."""
    found: Method = get_method(config["method"]["_target_"])
    return found


def stage_length(config: Config) -> int:
    """Epochs of each stage of a method, or steps where those are set."""
    return int(config["steps"] or config["epochs"])


def within_budget(plan: Plan, config: Config, stages: int) -> Plan:
    """A plan of as many epochs, or steps, as its budget allows.

    Args:
        plan: whose stages have the epochs of the config.
        config: the resolved config; with budget=matched the stages of a method together get as
            many epochs as all stages of `stagewise` have, each in proportion; else each stage as
            many as one of those, as published.
        stages: how many `stagewise` has.
    """
    if config["budget"] != "matched" or about(method_of(config)).reference:
        return plan
    whole, total = stage_length(config) * stages, sum(stage.epochs for stage in plan)
    ends = [round(whole * sum(s.epochs for s in plan[:n]) / total) for n in range(len(plan) + 1)]
    lengths = [max(1, end - start) for start, end in pairwise(ends)]
    return tuple(replace(stage, epochs=n) for stage, n in zip(plan, lengths, strict=True))
