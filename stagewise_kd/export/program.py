"""A network as a graph of torch's own: torch.export, and its file (.pt2)."""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stagewise_kd.export.form import Form, Formed
from stagewise_kd.export.proof import Predict

ABOUT = "about.json"  # in the file: the same as the metadata of an ONNX file
MORE = (64, 96)  # pixels by which the traced image is larger where sides are free


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps back what exporters warn of and log, attempts that fail among it."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def traced(whole: Formed, shape: Sequence[int], free_sides: bool) -> torch.export.ExportedProgram:
    """The graph of a network.

    Args:
        whole: the network.
        shape: channels, height and width of an image.
        free_sides: whether height and width are left open, beside the batch.

    Raises:
        Exception: any of torch's or of the network's, where it cannot be traced so.
    """
    form, auto = whole.form, torch.export.Dim.AUTO
    open_axes = {0: auto} | (dict.fromkeys(form.sides, auto) if free_sides else {})
    # A map of one pixel would be taken for one that has always one.
    size = larger(shape[1:]) if free_sides else shape[1:]
    example = form.feed(torch.rand(2, shape[0], *size), whole.mean, whole.std)
    with quiet(), torch.no_grad():
        return torch.export.export(whole, (example,), dynamic_shapes=(open_axes,))


def larger(sides: Sequence[int]) -> list[int]:
    """Another height and width, at which free sides are traced and proven."""
    return [side + more for side, more in zip(sides, MORE, strict=True)]


def write_program(
    path: Path, program: torch.export.ExportedProgram, about: dict[str, Any], opset: int | None
) -> None:
    """Write a .pt2 file, which tells in its `about.json` what the network is."""
    with quiet(), path.open("wb") as file:
        torch.export.save(program, file, extra_files={ABOUT: json.dumps(about)})


def open_program(path: Path, form: Form, mean: Tensor, std: Tensor) -> Predict:
    """The network of a .pt2 file, for images in [0, 1]."""
    with quiet(), path.open("rb") as file:
        module = torch.export.load(file).module()
    return lambda images: module(form.feed(images, mean, std))
