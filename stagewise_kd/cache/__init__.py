"""The feature cache: what a stage starts from, computed once a view."""

__all__ = ["budget", "feeds", "store", "tables"]
