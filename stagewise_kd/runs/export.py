"""The student of a run as a file for others: proven, timed, and on record."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import stagewise_kd
from stagewise_kd.comparison.runs import read_result
from stagewise_kd.data.own_splits import Given
from stagewise_kd.export.form import Form, Layout
from stagewise_kd.runs.front_end import FrontEnd
from stagewise_kd.runs.material import material
from stagewise_kd.runs.shipping import ENDINGS, Wish, about_file, keep, make, write_weights
from stagewise_kd.runs.student import open_student
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import path_of, workshop


def export(
    run: str | Path,
    file: str | Path | None = None,
    *,
    format: str = "onnx",
    int8: bool = False,
    preprocess: Layout | None = None,
    argmax: bool = False,
    opset: int | None = None,
    images: Given | Tensor | None = None,
    overrides: Sequence[str] = (),
    factory: Callable[[], nn.Module] | None = None,
    front_end: FrontEnd | None = None,
) -> dict[str, Any]:
    """Write the student of a finished run as a file that opens without this project.

    It is proven on images of the run's test split: a float32 file whose outputs differ by more than
    1e-4 of the largest logit (of 1 where all are smaller) is not written. Then all are timed. What
    was found is printed, and kept in `export.json` beside the file and in the run's result.json.

    Args:
        run: the run folder.
        file: to write; None: `student` in the run folder.
        format: "onnx"; "torch": a program of torch.export (.pt2); or "safetensors": the weights.
        int8: 8-bit weights and activations, calibrated on the run's own train images (onnx).
        preprocess: None: the file takes normalized float32 images; else uint8 RGB of this layout.
        argmax: the file gives classes in place of logits.
        opset: version of ONNX's operators.
        images: a data set, a `DataLoader` or a tensor of images to prove and calibrate with, in
            place of the run's own; they are not scored then.
        overrides: changes to the run's config, such as "data.root=DIR".
        factory: builds a network of the user's own.
        front_end: of the task; None: found by the run's data.

    Returns:
        What export.json holds of the file.

    Raises:
        UserError: the run is not finished, the options do not go together, packages are missing,
            the images or the network cannot be taken, or the file computes something else.
    """
    wish = Wish(format, int8, Form(preprocess, argmax), opset)
    wish.check()
    run = path_of(run)
    result = read_result(run)
    net, described = open_student(run, front_end.TASK if front_end else None, factory)
    if preprocess and described.get("images") == "prepared":
        raise UserError(f"{run}: preprocess: its data set prepared the images in a way of its own")
    target = path_of(file) if file else run / f"student{'.int8' * int8}{ENDINGS[format]}"
    about = about_file(net, described, wish.form, stagewise_kd.__version__)
    with workshop(target) as folder:
        if format == "safetensors":
            made = folder / target.name
            write_weights(made, net, about)
            record: dict[str, Any] = {"format": format}
        else:
            found = material(run, net, described, result, images, overrides, front_end)
            made, record = make(folder, net, found, wish, about)
        record["bytes"] = made.stat().st_size
        keep(run, target, record)
        made.replace(target)
    console.print(f"{target}: {record['bytes'] / 1e6:.3g} MB", soft_wrap=True, highlight=False)
    return record
