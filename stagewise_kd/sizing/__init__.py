"""Alternatives of a network's blocks, what they cost and lose, and the choice within a target."""

__all__ = [
    "alternatives",
    "calls",
    "choice",
    "costs",
    "finding",
    "frontier",
    "hidden",
    "repairing",
    "scores",
    "search",
    "target",
]
