"""Segmentation front end: U-Nets with a shrunk encoder."""
