"""`export` of a finished U-Net, and `predict` with what it has written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import seg_kd
from tests.seg_kd.test_cli import TINY, cli

pytestmark = pytest.mark.slow


def mask(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_masks_through_onnx_runtime_are_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("run", *TINY, "method=no_teacher", "reuse=false", "out=run") == 0
    draw = np.random.default_rng(0)
    Path("new").mkdir()
    for n, size in enumerate([(32, 32), (50, 41)]):
        pixels = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(Path("new") / f"{n}.png")
    assert cli("export", "run", "--preprocess", "nhwc") == 0
    assert cli("predict", "run", "new", "--out", "torch") == 0
    assert cli("predict", "run/student.onnx", "new", "--out", "onnx") == 0
    for n in range(2):
        ours, theirs = (mask(Path(folder) / f"{n}.png") for folder in ("onnx", "torch"))
        assert (ours == theirs).mean() > 0.999
    record = seg_kd.export("run", "small.onnx", int8=True, argmax=True)
    assert record["proof"]["agreement"] > 0.999
    assert {"miou", "agreement"} <= {*record["scores"]["int8"]}
    assert [*json.loads(Path("export.json").read_text())] == ["small.onnx"]
    assert cli("predict", "small.onnx", "new", "--out", "classes") == 2
