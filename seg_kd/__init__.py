"""Segmentation front end: a smaller U-Net out of a trained one."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg_kd.api import distill
    from stagewise_kd import load

__all__ = ["distill", "load"]


def __getattr__(name: str) -> Any:
    """Import what is asked for: help on a command line need not wait for torch."""
    if name == "distill":
        from seg_kd.api import distill

        return distill
    if name == "load":
        from stagewise_kd import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
