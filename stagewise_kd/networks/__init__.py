"""Networks as named blocks, the published ResNets, and what a network costs."""

__all__ = [
    "adapters",
    "blocks",
    "chain",
    "cost",
    "cutting",
    "encoders",
    "hashes",
    "headed",
    "inheriting",
    "layout",
    "libraries",
    "matching",
    "names",
    "origin",
    "places",
    "recognizing",
    "resnet",
    "tracing",
    "unet",
]
