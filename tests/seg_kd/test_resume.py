import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.seg_kd.test_cli import TINY, unet
from tests.stagewise_kd.training.test_stages import assert_same_run

ROOT = Path(__file__).resolve().parents[2]


def start(teacher: Path, out: Path) -> subprocess.Popen:
    overrides = [
        *TINY,
        "epochs=2",
        "schedule=sequential",
        f"teacher.checkpoint={teacher}",
        "reuse=false",
        f"out={out}",
    ]
    command = [sys.executable, "-m", "seg_kd", "run", *overrides]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("straight")
    unet().save_pretrained(folder / "teacher")
    assert start(folder / "teacher", folder / "run").wait(timeout=120) == 0
    return folder / "teacher", folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["02-layer2", "05-decoder"])
def test_killed_in_a_stage_and_started_again_equals_straight(straight, tmp_path, stage):
    teacher, expected = straight
    out = tmp_path / "run"
    process = start(teacher, out)
    while process.poll() is None and not (out / "stages" / stage / "last.ckpt").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "result.json").exists()
    assert start(teacher, out).wait(timeout=120) == 0
    assert_same_run(expected, out)
