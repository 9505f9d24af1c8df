"""Networks as named blocks, the published ResNets, and what a network costs."""

__all__ = ["blocks", "cost", "encoders", "matching", "origin", "resnet", "unet"]
