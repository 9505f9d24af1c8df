"""An exported network that is proven before anybody sees it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from stagewise_kd.export.form import Form, Formed
from stagewise_kd.export.onnx_file import OnnxNet, operator_of, write_onnx
from stagewise_kd.export.program import larger, open_program, traced, write_program
from stagewise_kd.export.proof import Predict, Proof, check, prove
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.system.errors import UserError, first_line

Images = Callable[[], Iterable[Tensor]]  # batches in [0, 1], the same at each call


@dataclass(frozen=True)
class Written:
    """A file that computes what the network computes.

    Args:
        path: the file.
        free_sides: whether it takes images of any height and width.
        proof: on real images.
    """

    path: Path
    free_sides: bool
    proof: Proof


def write_proven(
    net: BlockNet,
    path: Path,
    shape: Sequence[int],
    images: Images,
    about: dict[str, Any],
    opset: int | None = None,
) -> Written:
    """Write a network as ONNX or, to a file called .pt2, as torch's program, and prove it.

    The batch is open, and height and width where the network allows it.

    Args:
        net: on the CPU, in eval mode.
        path: the file.
        shape: channels, height and width of an image.
        images: on which both are compared.
        about: what the file tells of itself; "preprocess" and "output" say its form.
        opset: of ONNX.

    Raises:
        UserError: the network cannot be exported, or computes something else then.
    """
    form = Form(about["preprocess"], about["output"] != "logits")
    whole = Formed(net, form)
    write = write_program if path.suffix == ".pt2" else write_onnx
    for free in (True, False):
        try:
            write(path, traced(whole, shape, free), about, opset)
            exported = _opened(path, form, net)
            if free:
                _check(net, exported, _enlarged(images), form, path)
            return Written(path, free, _check(net, exported, images(), form, path))
        except Exception as error:  # any of torch's, of the exporter's, of the network's own
            reason = error
            if operator_of(error):
                break  # which no fixed size mends
    if isinstance(reason, UserError):
        raise reason
    raise UserError(_cannot(path, reason)) from None


def _check(
    net: BlockNet, exported: Predict, images: Iterable[Tensor], form: Form, path: Path
) -> Proof:
    return check(prove(net, exported, images, form.argmax), path.name)


def _opened(path: Path, form: Form, net: BlockNet) -> Predict:
    if path.suffix == ".pt2":
        return open_program(path, form, net.mean, net.std)
    return OnnxNet(path)


def _enlarged(images: Images) -> Iterable[Tensor]:
    """One batch at another height and width, in the levels of 8 bits."""
    for batch in islice(images(), 1):
        size = larger(batch.shape[2:])
        yield (interpolate(batch, size, mode="bilinear") * 255).round() / 255


def _cannot(path: Path, error: Exception) -> str:
    """What a network cannot, in one line."""
    operator = operator_of(error)
    if operator:
        return (
            f"{path.name}: ONNX has no operator for {operator}, which the network uses; "
            "export --format torch, or change that layer"
        )
    return f"{path.name}: the network cannot be exported ({first_line(error)[:300]})"
