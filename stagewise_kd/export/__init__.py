"""A finished student for others: files that open without this project, and its model card."""

__all__ = [
    "card",
    "form",
    "int8",
    "onnx_file",
    "opening",
    "program",
    "proof",
    "timing",
    "writing",
]
