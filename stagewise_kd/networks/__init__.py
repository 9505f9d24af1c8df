"""Networks as named blocks, the published ResNets, and what a network costs."""

__all__ = [
    "blocks",
    "cost",
    "cutting",
    "encoders",
    "hashes",
    "layout",
    "matching",
    "origin",
    "places",
    "recognizing",
    "resnet",
    "tracing",
    "unet",
]
