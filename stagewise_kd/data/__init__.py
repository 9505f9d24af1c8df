"""Image files, splits, generated shapes, and the loaders that draw views of them."""

__all__ = ["batches", "image_files", "loaders", "shapes", "splits"]
