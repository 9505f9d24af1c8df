"""A finished student for others: files that open without this project, and its model card."""

__all__ = ["card", "opening"]
