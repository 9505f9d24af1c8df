"""Classification front end: a smaller classifier out of a trained one."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cls_kd.api import distill, export, load

__all__ = ["distill", "export", "load"]
_HOME = dict.fromkeys(__all__, "cls_kd.api")


def __getattr__(name: str) -> Any:
    """Import what is asked for: help on a command line need not wait for torch."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
