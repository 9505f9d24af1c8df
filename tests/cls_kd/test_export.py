"""`export` of a finished classifier, and `predict` with what it has written."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx import save as save_onnx
from PIL import Image
from safetensors import safe_open
from torch import nn

import cls_kd
import stagewise_kd
from cls_kd.cli import main
from stagewise_kd.comparison.compare import compare
from stagewise_kd.export import onnx_file, timing
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.system.errors import UserError

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"


def command(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in argv])
    return caught.value.code


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Noise of two classes, bright and dark; no side is the network's."""
    root, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 5)):
        for name, level in (("bright", 130), ("dark", 0)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for n in range(count):
                pixels = level + draw.integers(0, 120, (36, 40 + n, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n}.png")
    return root


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory) -> Path:
    """A run of one step, without a teacher."""
    return trained(pictures, tmp_path_factory.mktemp("home") / "run", "method=no_teacher")


def trained(pictures: Path, out: Path, *settings: str) -> Path:
    data = ["data=folder", f"data.root={pictures}", "data.size=32", "student=resnet10"]
    how = ["steps=1", "batch_size=8", "reuse=false", "teacher.check=false"]
    assert command("run", *data, *how, *settings, f"out={out}") == 0
    return out


def predictions(run: Path, *argv: object) -> list[dict[str, str]]:
    assert command("predict", *argv, "--out", run.parent / "seen") == 0
    return list(csv.DictReader((run.parent / "seen" / "predictions.csv").read_text().splitlines()))


def check_same(found: list[dict[str, str]], expected: list[dict[str, str]]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours["file"], ours["class_1"]) == (theirs["file"], theirs["class_1"])
        near = pytest.approx(float(theirs["probability_1"]), abs=1.1e-4)
        assert float(ours["probability_1"]) == near


@pytest.mark.slow
def test_export_in_8_bits_and_all_that_is_told_of_it(pictures, tmp_path_factory, tmp_path, capsys):
    home = tmp_path_factory.mktemp("taught")
    torch.save(resnet("resnet10", 2).model.state_dict(), home / "teacher.pt")
    networks = ["teacher=resnet10", f"teacher.checkpoint={home / 'teacher.pt'}", "method=hinton"]
    run = trained(pictures, home / "run", *networks)
    assert command("export", run, "--int8", "--out", tmp_path / "small.onnx") == 0
    said = capsys.readouterr().err
    assert "largest difference" in said and "batch 16" in said
    (told,) = json.loads((tmp_path / "export.json").read_text()).items()
    assert told[0] == "small.onnx"
    assert told[1]["proof"]["images"] == 10
    assert set(told[1]["scores"]["int8"]) == {"accuracy", "balanced_accuracy", "agreement"}
    forms = {(t["network"], t["runtime"], t["precision"]) for t in told[1]["latency"]}
    pairs = [("torch", "float32"), ("torch", "bf16"), ("onnx", "float32"), ("onnx", "int8")]
    assert forms == {(name, *pair) for name in ("teacher", "student") for pair in pairs}
    cost = json.loads((run / "result.json").read_text())["cost"]
    assert cost["shipped"]["precision"] == "int8"
    table = compare([run], tmp_path / "report", []).text
    assert table["as shipped"].tolist()[-1] == f"{cost['shipped']['latency_ms']:.2f} ms"
    size = (tmp_path / "small.onnx").stat().st_size
    assert size < (run / "student" / "model.safetensors").stat().st_size / 3
    check = predictions(run, tmp_path / "small.onnx", pictures / "test")
    assert len(check) == 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export.json", "report", "small.onnx"]


def test_predict_through_onnx_runtime_gives_the_same(run, pictures, tmp_path, monkeypatch):
    """With all built in, by the front door, and by the script of docs/export.md."""
    monkeypatch.setattr(timing, "SECONDS", 0)
    record = cls_kd.export(run, tmp_path / "student.onnx", preprocess="nhwc")
    assert "Latency of what is shipped" in (run / "student" / "README.md").read_text()
    assert record["free_sides"] and record["proof"]["agreement"] == 1
    forms = [(t["runtime"], t["precision"]) for t in record["latency"]]
    assert forms == 2 * [("torch", "float32"), ("torch", "bf16"), ("onnx", "float32")]
    assert all(0 < t["low"] <= t["ms"] <= t["high"] for t in record["latency"])
    expected = predictions(run, run, pictures / "test")
    check_same(predictions(run, tmp_path / "student.onnx", pictures / "test"), expected)
    script = DOCS.read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "photos.py").write_text(script)
    place = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    words = [sys.executable, "photos.py", "student.onnx", str(pictures / "test")]
    found = subprocess.check_output(words, cwd=tmp_path, env=place, text=True).splitlines()
    for line, row in zip(found, expected, strict=True):
        file, name, share = line.split("\t")
        assert (file, name) == (row["file"], row["class_1"])
        assert float(share) == pytest.approx(float(row["probability_1"]), abs=1.1e-4)


def test_weights_alone(run, tmp_path):
    assert command("export", run, "--format", "safetensors", "--out", tmp_path / "w.st") == 0
    with safe_open(tmp_path / "w.st", "pt") as file:
        assert json.loads(file.metadata()["classes"]) == ["bright", "dark"]
        net = resnet(**json.loads(file.metadata()["network"]))
        net.model.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    assert json.loads((tmp_path / "export.json").read_text())["w.st"]["format"] == "safetensors"


def test_a_run_from_python_is_proven_on_random_images_or_given_ones(tmp_path, capsys):
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(196, 3))

    torch.manual_seed(0)
    options = {"method": "hinton", "steps": 1, "batch_size": 4, "out": tmp_path / "run"}
    cls_kd.distill(build(), build(), images, **options)
    file = tmp_path / "student.pt2"
    record = stagewise_kd.export(tmp_path / "run", file, format="torch", factory=build)
    assert record["proof"]["on"] == "random images"
    assert "which alone has its data; proven on random images" in " ".join(
        capsys.readouterr().err.split()
    )
    record = stagewise_kd.export(
        tmp_path / "run", file, format="torch", factory=build, images=images
    )
    assert (record["proof"]["images"], record["free_sides"]) == (8, False)
    with pytest.raises(UserError, match="int8: is calibrated on images"):
        stagewise_kd.export(tmp_path / "run", tmp_path / "s.onnx", int8=True, factory=build)
    assert not (tmp_path / "s.onnx").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "tflite"], "format tflite: give onnx, torch, safetensors"),
        (["--preprocess", "hwc"], "preprocess hwc: give nchw or nhwc"),
        (["--format", "torch", "--int8"], "int8 and opset: are for onnx, not for torch"),
        (["--opset", "9"], "opset 9: the exporter writes 18 and later ones"),
        (["data.root=nowhere"], "which cannot be read: "),
        (["--out", "."], ".: is a folder; give an --out that names a file"),
    ],
)
def test_bad_options_end_in_one_message(run, tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in options else ["--out", "new/a.onnx"]
    assert command("export", run, *options, *out) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("error:") == 1
    assert not [*tmp_path.iterdir()]


def test_a_run_that_is_not_finished(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    assert command("export", tmp_path / "run") == 2
    assert "holds no finished run" in capsys.readouterr().err


def test_a_missing_package_is_told_with_its_extra(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx_file, "missing", lambda *names: [*names])
    assert command("export", run, "--out", tmp_path / "a.onnx") == 2
    assert 'pip install "stagewise-kd[onnx]"' in capsys.readouterr().err
    (tmp_path / "b.onnx").write_bytes(b"")
    assert command("predict", tmp_path / "b.onnx", tmp_path) == 2
    assert 'pip install "stagewise-kd[onnx]"' in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_cannot_be_written(run, tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert command("export", run, "--out", tmp_path / "a.onnx") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing(run, tmp_path):
    """The limit on the size of a file stands for it; it holds in a process of its own."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
        "from cls_kd.cli import main; main(sys.argv[1:])"
    )
    words = ["export", str(run), "--format", "safetensors", "--out", "new/a.safetensors"]
    place = os.environ | {"PYTHONPATH": str(DOCS.parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env=place,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "error: new/a.safetensors: cannot be written (File too large)" in done.stderr
    assert not [*tmp_path.iterdir()]


def test_predict_refuses_onnx_files_of_something_else(tmp_path, pictures, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y")]
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph([node], "other", names[:1], names[1:])
    save_onnx(
        helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)]),
        tmp_path / "other.onnx",
    )
    assert command("predict", "other.onnx", pictures) == 2
    assert "other.onnx: is an ONNX file of something else" in capsys.readouterr().err
    (tmp_path / "noise.onnx").write_bytes(b"no network")
    assert command("predict", "noise.onnx", pictures) == 2
    assert "noise.onnx: ONNX Runtime cannot open it" in capsys.readouterr().err
    assert command("predict", "nowhere.onnx", pictures) == 2
    assert "nowhere.onnx: no such file" in capsys.readouterr().err
    assert not (tmp_path / "predictions").exists()
