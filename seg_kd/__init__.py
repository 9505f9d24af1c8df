"""Segmentation front end: a smaller U-Net out of a trained one."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg_kd.api import distill, export, load
    from stagewise_kd.networks.encoders import register

__all__ = ["distill", "export", "load", "register"]
_HOME = {
    "distill": "seg_kd.api",
    "export": "seg_kd.api",
    "load": "seg_kd.api",
    "register": "stagewise_kd.networks.encoders",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: help on a command line need not wait for torch."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
