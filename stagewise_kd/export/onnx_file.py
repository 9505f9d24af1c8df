"""ONNX files: written from a traced network, and opened with ONNX Runtime.

Packages of the extra `onnx` are imported where they are used.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stagewise_kd.export.form import Form
from stagewise_kd.export.program import quiet
from stagewise_kd.system.errors import UserError, first_line
from stagewise_kd.system.packages import missing

IMAGE = "image"
ABOUT = "stagewise_kd"  # the key of the metadata that holds our version
OLDEST = 18  # opset that torch's exporter writes
AXES = ("batch", "height", "width")
OPERATOR = re.compile(r"op='([\w.:]+)'|No ONNX function found for <OpOverload\(op='([\w.:]+)'")


def check_onnx(*packages: str) -> None:
    """Raise a `UserError` that tells the extra, if a package is missing."""
    if lacking := missing(*packages):
        raise UserError(
            f"{', '.join(lacking)}: not installed; ONNX files need it: "
            'pip install "stagewise-kd[onnx]"'
        )


def write_onnx(
    path: Path, program: torch.export.ExportedProgram, about: dict[str, Any], opset: int | None
) -> None:
    """Write a traced network as ONNX, with input `image` and output `logits` or `classes`.

    Args:
        path: the file.
        program: from `traced`.
        about: for the file's metadata, each value as JSON.
        opset: version of ONNX's operators; None for the exporter's own choice.

    Raises:
        Exception: any of the exporter's, where ONNX has no such operator.
    """
    with quiet():
        made = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[IMAGE],
            output_names=[about["output"]],
            opset_version=opset,
            verbose=False,
        )
    if made is None:
        raise RuntimeError("the exporter gives nothing")
    write_model(path, _with_names(made.model_proto, Form(about["preprocess"])), about)


def write_model(path: Path, model: Any, about: dict[str, Any]) -> None:
    """Write an ONNX model with its metadata."""
    from onnx.helper import set_model_props

    set_model_props(model, {name: json.dumps(value) for name, value in about.items()})
    path.write_bytes(model.SerializeToString())


def _with_names(model: Any, form: Form) -> Any:
    """The model with open axes that are called batch, height and width."""
    inputs = model.graph.input[0].type.tensor_type.shape.dim
    found = [inputs[axis].dim_param for axis in (0, *form.sides)]
    names = {symbol: name for symbol, name in zip(found, AXES, strict=True) if symbol}
    del model.graph.value_info[:]  # their names would be the old ones; runtimes find them again
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                told = names.get(dim.dim_param)
                dim.dim_param = told if told else f"{value.name}_{dim.dim_param}"
    for node in model.graph.node:  # where in the code an operator comes from
        del node.metadata_props[:]
    return model


def operator_of(error: BaseException) -> str | None:
    """The operator that ONNX lacks, as the exporter's error or one that it comes from tells."""
    seen: BaseException | None = error
    while seen is not None:
        if found := OPERATOR.search(str(seen)):
            return next(name for name in found.groups() if name)
        seen = seen.__cause__ or seen.__context__
    return None


class OnnxNet(nn.Module):
    """A network that ONNX Runtime computes; takes images (B, C, H, W) in [0, 1] as `BlockNet` does.

    Args:
        path: the file.

    Raises:
        UserError: it is none of ours, or ONNX Runtime cannot open it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.session = open_session(path)
        self.about = _about(path, self.session)
        self.form = Form(self.about["preprocess"], self.about["output"] != "logits")
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(self.about[name]).view(-1, 1, 1))
        self._shape = self.session.get_inputs()[0].shape

    def forward(self, images: Tensor) -> Tensor:
        """Logits, or classes of a file that gives those."""
        feed = self.form.feed(images.cpu(), self.mean, self.std)
        self._check(feed)
        (found,) = self.session.run(None, {IMAGE: feed.numpy()})
        return torch.from_numpy(found)

    def _check(self, feed: Tensor) -> None:
        wanted = [self._shape[axis] for axis in self.form.sides]
        given = [feed.shape[axis] for axis in self.form.sides]
        if any(isinstance(side, int) and side != s for side, s in zip(wanted, given, strict=True)):
            raise UserError(
                f"{self.path}: takes images of {wanted[0]}×{wanted[1]} pixels alone, and these are "
                f"{given[0]}×{given[1]}; give images of that size, or the run folder"
            )


def open_session(path: Path) -> Any:
    """ONNX Runtime on a file, on as many threads of the CPU as torch has.

    Raises:
        UserError: it is no ONNX file.
    """
    check_onnx("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # its threads would wait busily, and slow what runs next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # without VNNI, sums of 8 bits would be cut off at 16
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds, one for each fault
        raise UserError(
            f"{path}: ONNX Runtime cannot open it ({first_line(error)[:200]}); give a file of "
            "`export RUN --format onnx`, or a run folder"
        ) from None


def _about(path: Path, session: Any) -> dict[str, Any]:
    """What the metadata of a file of ours tells."""
    told = session.get_modelmeta().custom_metadata_map
    if ABOUT not in told:
        raise UserError(
            f"{path}: is an ONNX file of something else: its metadata tells no classes and no "
            "normalization; give a file of `export RUN --format onnx`, or a run folder"
        )
    return {name: json.loads(value) for name, value in told.items()}
