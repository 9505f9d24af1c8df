"""Eight bits after training: static quantization by ONNX Runtime."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from stagewise_kd.export.onnx_file import IMAGE, OnnxNet, write_model
from stagewise_kd.export.program import quiet


def quantize(source: OnnxNet, target: Path, batches: Iterable[Tensor]) -> None:
    """Write a network with int8 weights, a scale a channel, and 8-bit activations (QDQ).

    Args:
        source: the network in float32.
        target: the file to write.
        batches: images in [0, 1] whose activations choose the ranges.
    """
    import onnx
    from onnxruntime import quantization

    with quiet():  # it advises steps that the exporter has done
        quantization.quantize_static(
            source.path,
            target,
            _reader(source, batches),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    write_model(target, onnx.load(target), source.about)


def _reader(source: OnnxNet, batches: Iterable[Tensor]) -> Any:
    """The images as ONNX Runtime asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    feeds: Iterator[dict[str, Any]] = (
        {IMAGE: source.form.feed(images, source.mean, source.std).numpy()} for images in batches
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(feeds, None)

    return Reader()
