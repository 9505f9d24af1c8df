"""The method that a config names."""

from hydra.utils import get_method

from stagewise_kd.methods.method import Method, about
from stagewise_kd.system.names import Config


def method_of(config: Config) -> Method:
    """The function that makes the plan."""
    found: Method = get_method(config["method"]["_target_"])
    return found


def stage_length(config: Config, stages: int) -> int:
    """Epochs of each stage of a method, or steps where those are set.

    Args:
        config: the resolved config; with budget=matched a method of one stage gets as many epochs
            as all stages of `stagewise` have together; as published, as many as one of them.
        stages: how many `stagewise` has.
    """
    matched = config["budget"] == "matched" and about(method_of(config)).one_stage
    return (config["steps"] or config["epochs"]) * (stages if matched else 1)
