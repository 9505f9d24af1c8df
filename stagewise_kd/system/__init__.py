"""Errors, whole-or-absent files, the run folder, processes, number formats, the console."""

__all__ = [
    "checkpoints",
    "console",
    "errors",
    "files",
    "names",
    "packages",
    "precision",
    "processes",
    "run_folder",
    "weights",
]
