import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import resnet34

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def start(folder: Path, name: str, *argv: object) -> subprocess.Popen:
    """An example as a user runs it, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parent)}
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, argv)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=env, **pipes)


def run(folder: Path, name: str, *argv: object, status: int = 0) -> tuple[str, str]:
    out, said = (process := start(folder, name, *argv)).communicate(timeout=300)
    assert process.returncode == status, said
    return out, said


@pytest.fixture
def photos(tmp_path) -> Path:
    for split, count in (("train", 6), ("test", 2)):
        for name, level in (("bright", 200), ("dark", 40)):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for n in range(count):
                Image.new("RGB", (40 + n, 36), (level, level, n)).save(folder / f"{n}.jpg")
    return tmp_path / "photos"


@pytest.fixture
def teacher(tmp_path) -> Path:
    torch.manual_seed(0)
    torch.save(resnet34(num_classes=2).state_dict(), tmp_path / "teacher.pt")
    return tmp_path / "teacher.pt"


@pytest.mark.slow
def test_classifier(tmp_path, photos, teacher):
    out, _ = run(tmp_path, "classifier", photos, teacher)
    result = json.loads((tmp_path / "runs" / "resnet18" / "result.json").read_text())
    assert f"student: accuracy {result['student_metrics']['accuracy']:.3f}" in out
    assert (result["student"], result["teacher"], result["dataset"]) == (
        "resnet18",
        "resnet34",
        "ImageFolder",
    )


@pytest.mark.slow
def test_unet(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for kind, shape, values in (("images", (32, 64, 3), 256), ("masks", (32, 64), 3)):
            folder = tmp_path / "streets" / split / kind
            folder.mkdir(parents=True)
            for n in range(count):
                pixels = rng.integers(0, values, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{n}.png")
    smp.Unet("resnet34", encoder_weights=None, classes=3).save_pretrained(tmp_path / "teacher")
    run(tmp_path, "unet", tmp_path / "streets", tmp_path / "teacher")
    small = smp.from_pretrained(tmp_path / "runs" / "small_unet")
    whole = smp.from_pretrained(tmp_path / "teacher")
    head = small.segmentation_head[0].weight
    assert head.equal(whole.segmentation_head[0].weight)  # kept: no label was seen


def test_without_labels(tmp_path, photos, teacher):
    out, said = run(tmp_path, "without_labels", photos, teacher)
    assert out.startswith("agreement ")
    assert "stage 1/1 features" in said
    weights = torch.load(tmp_path / "resnet18.pt", weights_only=True)
    kept = torch.load(teacher, weights_only=True)
    assert weights["fc.weight"].equal(kept["fc.weight"])
    assert not weights["conv1.weight"].equal(kept["conv1.weight"])


def test_own_network(tmp_path):
    run(tmp_path, "own_network", 1)
    assert [*tmp_path.glob("runs/*/student/model.safetensors")]


@pytest.mark.slow
def test_own_network_killed_resumed_finished_and_refused(tmp_path):
    run(tmp_path / "straight", "own_network", 4)
    killed = start(tmp_path / "killed", "own_network", 4)
    folder = tmp_path / "killed" / "runs" / "own"
    while not (folder / "metrics.csv").exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (folder / "result.json").exists()
    run(tmp_path / "killed", "own_network", 4)
    weights = [
        load_file(tmp_path / name / "runs" / "own" / "student" / "model.safetensors")
        for name in ("straight", "killed")
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())

    before = (folder / "result.json").stat().st_mtime_ns
    _, said = run(tmp_path / "killed", "own_network", 4)
    assert said.endswith("runs/own is finished already\n")
    _, said = run(tmp_path / "killed", "own_network", 5, status=1)
    assert "holds a run of another configuration (was epochs: 4; now epochs: 5)" in said
    assert (folder / "result.json").stat().st_mtime_ns == before
