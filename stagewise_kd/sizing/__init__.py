"""Alternatives of a network's blocks, what they cost and lose, and the choice within a target."""

__all__ = [
    "alternatives",
    "calls",
    "choice",
    "costs",
    "finding",
    "frontier",
    "hidden",
    "layers",
    "pairs",
    "probing",
    "repairing",
    "scores",
    "search",
    "target",
]
