"""The file of a student as it was asked for, and what is on record of it."""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch.nn.functional as F

from stagewise_kd.comparison.report import print_table
from stagewise_kd.export.card import write_card
from stagewise_kd.export.form import Form
from stagewise_kd.export.int8 import quantize
from stagewise_kd.export.onnx_file import ABOUT, OLDEST, OnnxNet, check_onnx
from stagewise_kd.export.proof import Predict, prove
from stagewise_kd.export.timing import Kind, Timing, machine, timings
from stagewise_kd.export.writing import Images, write_proven
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.material import Material
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError, first_line, raise_faults
from stagewise_kd.system.files import read_json, write_json
from stagewise_kd.system.weights import write_tensors
from stagewise_kd.training.score import AGREEMENT, TEACHER, scores

ENDINGS = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
TOLD = ("task", "classes", "palette", "size", "images", "build", "network", "mean", "std")


@dataclass(frozen=True)
class Wish:
    """What kind of file is asked for."""

    format: str
    int8: bool
    form: Form
    opset: int | None

    def check(self) -> None:
        """Raise a `UserError` that lists what does not go together, or is not installed."""
        faults = []
        if self.format not in ENDINGS:
            faults.append(f"format {self.format}: give {', '.join(ENDINGS)}")
        if self.form.preprocess not in (None, "nchw", "nhwc"):
            faults.append(f"preprocess {self.form.preprocess}: give nchw or nhwc")
        if self.format == "safetensors" and self.form != Form():
            faults.append("preprocess and argmax: are for onnx and torch; safetensors are weights")
        if self.format != "onnx" and (self.int8 or self.opset):
            faults.append(f"int8 and opset: are for onnx, not for {self.format}")
        if self.opset and self.opset < OLDEST:
            faults.append(f"opset {self.opset}: the exporter writes {OLDEST} and later ones")
        raise_faults("export", faults)
        if self.format == "onnx":
            check_onnx("onnx", "onnxscript", "onnxruntime")


def about_file(
    net: BlockNet, described: dict[str, Any], form: Form, version: str
) -> dict[str, Any]:
    """What a file tells of itself: classes, palette, normalization, size, our version, its form."""
    told = {key: described[key] for key in TOLD if described.get(key) is not None}
    return {ABOUT: version, **told, "preprocess": form.preprocess, "output": form.output}


def write_weights(path: Path, net: BlockNet, about: dict[str, Any]) -> None:
    """Write a safetensors file, with what it is in its metadata."""
    metadata = {name: json.dumps(value) for name, value in about.items()}
    write_tensors(path, net.model.state_dict(), metadata)


def make(
    folder: Path, net: BlockNet, found: Material, wish: Wish, about: dict[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """Write, prove, score and time a student, and tell of it.

    Args:
        folder: to write into.
        net: the student.
        found: what it is proven with.
        wish: the kind of file.
        about: what the file tells of itself.

    Returns:
        The file, and what export.json is to hold of it.
    """
    if wish.int8 and found.calibration is None:
        raise UserError(
            "int8: is calibrated on images; give some: stagewise_kd.export(…, images=…)"
        )
    path = folder / f"student{ENDINGS[wish.format]}"
    written = write_proven(net, path, found.shape, found.images, about, wish.opset)
    _say(f"{written.proof} ({found.told})")
    if not written.free_sides:
        _say(f"takes images of {'×'.join(map(str, found.shape[1:]))} pixels alone")
    record = {
        "format": wish.format,
        "precision": "int8" if wish.int8 else "float32",
        "preprocess": about["preprocess"],
        "output": about["output"],
        "free_sides": written.free_sides,
        "proof": {"on": found.told, **asdict(written.proof)},
    }
    nets: dict[Kind, BlockNet | OnnxNet] = {}
    for name, one in ((TEACHER, found.teacher), ("student", net)):
        if one is not None:
            nets |= {(name, "torch", precision): one for precision in ("float32", "bf16")}
            files = _in_onnx(folder, name, one, found, wish, about)
            nets |= {(name, "onnx", precision): file for precision, file in files.items()}
    if wish.int8:  # files are the student's
        path = files["int8"].path
        record |= {"scores": _scored(net, files, found)}
    record |= {"machine": machine(), "latency": [asdict(t) for t in _timed(nets, found.shape)]}
    return path, record


def _in_onnx(
    folder: Path, name: str, net: BlockNet, found: Material, wish: Wish, about: dict[str, Any]
) -> dict[str, OnnxNet]:
    """A network as ONNX Runtime computes it, in float32 and in 8 bits."""
    if wish.format != "onnx":
        return {}
    path = folder / f"{name}.onnx"
    if name == TEACHER:  # to be timed alone
        norm = {key: getattr(net, key).flatten().tolist() for key in ("mean", "std")}
        try:
            write_proven(net, path, found.shape, _first(found.images), about | norm, wish.opset)
        except UserError as error:
            _say(f"the teacher is timed in torch alone: {error}")
            return {}
    nets = {"float32": OnnxNet(path)}
    if wish.int8 and found.calibration:
        small = folder / f"{name}.int8.onnx"
        images = found.calibration if net is not found.teacher else _first(found.calibration)
        try:
            quantize(nets["float32"], small, images())
            nets["int8"] = OnnxNet(small)
        except (OSError, UserError):
            raise
        except Exception as error:  # whatever its steps raise on a graph that they do not know
            raise UserError(
                f"int8: ONNX Runtime cannot quantize the {name} ({first_line(error)[:200]}); "
                "leave out --int8"
            ) from None
    return nets


def _first(images: Images) -> Images:
    return lambda: islice(images(), 2)


def _scored(
    net: BlockNet, files: dict[str, OnnxNet], found: Material
) -> dict[str, dict[str, float]]:
    """Scores of a file in float32 and in 8 bits, and how often each agrees with torch."""
    if found.setup is None:
        argmax = files["int8"].form.argmax
        proofs = {k: prove(net, one, found.images(), argmax) for k, one in files.items()}
        return {name: {AGREEMENT: round(proof.agreement, 6)} for name, proof in proofs.items()}
    nets: dict[str, Predict] = {name: _logits(one, found) for name, one in files.items()}
    # agreement is with what is called the teacher: here it is the student in torch
    figures = scores({TEACHER: net, **nets}, found.setup.data.test, found.setup)
    columns = [name for name in found.setup.task.columns if name in figures["int8"]]
    rows = [
        {"student": name, **{c: f"{figures[name][c]:.4f}" for c in [*columns, AGREEMENT]}}
        for name in files
    ]
    print_table(pd.DataFrame(rows).rename(columns={AGREEMENT: "agreement with torch"}))
    return {name: figures[name] for name in files}


def _logits(net: Any, found: Material) -> Predict:
    """A file's network for scoring, which takes logits; of a class alone, 1 for that."""
    if not net.form.argmax:
        return net
    count = len(net.about["classes"])
    return lambda images: F.one_hot(net(images), count).movedim(-1, 1).float()


def _timed(nets: dict[Kind, BlockNet | OnnxNet], shape: tuple[int, ...]) -> list[Timing]:
    found = timings(nets, shape)
    print_table(latency_table(found))
    _say(f"median (quartiles) of a batch, in turns; {machine()}")
    return found


def latency_table(found: Iterable[Timing]) -> pd.DataFrame:
    """Timings as text: a row for each network and form, a column for each size of batch."""
    rows: dict[Kind, dict[str, str]] = {}
    for t in found:
        row = rows.setdefault(
            (t.network, t.runtime, t.precision),
            {"network": t.network, "runtime": t.runtime, "precision": t.precision},
        )
        row[f"batch {t.batch}"] = f"{t.ms:.2f} ms ({t.low:.2f}–{t.high:.2f})"
    return pd.DataFrame([*rows.values()])


def keep(run: Path, target: Path, record: dict[str, Any]) -> None:
    """Note a file in the export.json beside it; what was timed in the run's result and card too."""
    beside = target.with_name("export.json")
    known = read_json(beside)
    write_json(beside, (known if isinstance(known, dict) else {}) | {target.name: record})
    if "latency" not in record:
        return
    result = read_json(run / "result.json")
    result["cost"]["shipped"] = {"file": target.name, **record, "latency_ms": shipped_ms(record)}
    with suppress(PermissionError):  # of somebody else's run: export.json tells it
        write_json(run / "result.json", result)
        write_card(run, result)


def shipped_ms(record: dict[str, Any]) -> float:
    """The median for one image of the student as it is shipped."""
    return next(
        row["ms"]
        for row in record["latency"]
        if (row["network"], row["runtime"], row["precision"], row["batch"])
        == ("student", record["format"], record["precision"], 1)
    )


def _say(line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False)
