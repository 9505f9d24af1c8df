"""Segmentation front end: U-Nets with a shrunk encoder."""

from stagewise_kd.networks.encoders import register
from stagewise_kd.runs.student import load

register()

__all__ = ["load"]
