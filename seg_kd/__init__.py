"""Segmentation front end: U-Nets with a shrunk encoder.

Importing it makes the shrunk encoders known to smp: `smp.Unet("resnet10")` works from then on.
"""

from seg_kd.encoders import register

register()

from seg_kd.networks import load  # noqa: E402

__all__ = ["load"]
