"""Image files, splits, generated shapes, and the loaders that draw views of them."""

__all__ = [
    "batches",
    "division",
    "finding",
    "identity",
    "image_files",
    "loaders",
    "own",
    "own_splits",
    "pace",
    "preparing",
    "present",
    "reading",
    "samples",
    "sampling",
    "shapes",
    "splits",
]
