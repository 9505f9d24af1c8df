"""One run from its config to its result, many of them as a study, and what is left of them."""

__all__ = [
    "blocks",
    "build",
    "composing",
    "config",
    "config_source",
    "distill",
    "evaluate",
    "experiment",
    "foreign",
    "front_end",
    "launchers",
    "method",
    "overrides",
    "own_networks",
    "predict",
    "run",
    "status",
    "student",
    "study",
    "teacher",
]
