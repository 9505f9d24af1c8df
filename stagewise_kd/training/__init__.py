"""Runs the stages of a plan, each from the best epoch of the one before."""

__all__ = [
    "chance",
    "compiling",
    "graft",
    "norms",
    "progress",
    "recorder",
    "score",
    "setup",
    "sharing",
    "stage_module",
    "stages",
    "tracker",
    "trainer",
]
