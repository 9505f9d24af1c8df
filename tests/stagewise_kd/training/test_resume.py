import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from stagewise_kd.runs.experiment import run_experiment
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.run_folder import open_run
from stagewise_kd.training import recorder
from tests.engine import experiment, make_setup, run_tiny
from tests.stagewise_kd.training.test_stages import assert_same_run

ROOT = Path(__file__).resolve().parents[3]


def start(out: Path, **env: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.engine", str(out)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | env, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen, status: int = 0) -> str:
    """Wait for a process, check its status, and give what it said."""
    said = process.communicate(timeout=120)[1].decode()
    assert process.returncode == status, said
    return said


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    finish(start(out))
    return out


SLOW = [pytest.param(lines, marks=pytest.mark.slow) for lines in (5, 27)]


@pytest.mark.parametrize("lines", [12, *SLOW])
def test_killed_and_started_again_equals_straight(straight, tmp_path, lines):
    """Kill as soon as metrics.csv has so many lines: in the first, second and third stage."""
    out = tmp_path / "run"
    process = start(out)
    while process.poll() is None:
        path = out / "metrics.csv"
        if path.exists() and path.read_text().count("\n") >= lines:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    finish(process, -signal.SIGKILL)
    assert not (out / "result.json").exists()
    finish(start(out))
    assert_same_run(straight, out)


class StopsOnce:
    """A tracker under which the run breaks off in an epoch of its second stage."""

    def __init__(self, epoch: int) -> None:
        self.epochs: list[int] = []
        self._stop: int | None = epoch

    def log(self, stage, epoch, step, values):
        self.epochs.append(epoch)
        if stage == "b" and epoch == self._stop:
            self._stop = None
            raise RuntimeError("stopped")

    def finish(self, result, folder):
        pass


@pytest.mark.parametrize(("ratio", "again"), [(0, [3, 4]), (1e9, [1, 2, 3, 4])])
def test_short_epochs_are_saved_now_and_then(tmp_path, monkeypatch, ratio, again):
    """The first and the last always; what was not saved is repeated, and ends the same."""
    monkeypatch.setattr(recorder, "TRAINING_PER_SAVING", ratio)
    tracker = StopsOnce(3)
    for name, setup in (("cut", make_setup(tracker=tracker)), ("straight", make_setup())):
        with open_run(tmp_path / name) as run, suppress(RuntimeError):
            run_experiment(experiment(setup, epochs=5), run)
    with open_run(tmp_path / "cut") as run:
        run_experiment(experiment(make_setup(tracker=tracker), epochs=5), run)
    assert tracker.epochs == [*range(5), *range(4), *again, *range(5)]
    assert_same_run(tmp_path / "straight", tmp_path / "cut")


def test_rows_written_after_the_checkpoint_are_not_doubled(tmp_path):
    with open_run(tmp_path / "run") as run:
        for epoch in range(3):
            run.add_metrics("a", epoch, epoch, {"x": 1.0})
        with (tmp_path / "run" / "metrics.csv").open("a") as file:
            file.write("a,3,3,x")  # torn
        run.drop_metrics("a", 2)
        run.add_metrics("a", 2, 2, {"x": 2.0})
    rows = (tmp_path / "run" / "metrics.csv").read_text().split()
    assert rows == ["stage,epoch,step,name,value", "a,0,0,x,1.0", "a,1,1,x,1.0", "a,2,2,x,2.0"]


def test_second_process_refuses_at_once(tmp_path):
    with open_run(tmp_path / "run"):
        said = finish(start(tmp_path / "run"), status=1)
    assert "another process is working on this run" in said


def test_other_configuration_and_foreign_folder_are_refused(tmp_path):
    with open_run(tmp_path / "run") as run:
        run.start("epochs: 3\nlr: 0.1\n", {}, {})
        run.check_config("epochs: 3\nlr: 0.1\n")
        with pytest.raises(UserError, match=r"was epochs: 3; now epochs: 5"):
            run.check_config("epochs: 5\nlr: 0.1\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with open_run(tmp_path / "mine") as run, pytest.raises(UserError, match="holds no run"):
        run.check_config("epochs: 3\n")
    assert [p.name for p in (tmp_path / "mine").iterdir() if p.name != ".lock"] == ["thesis.txt"]


def test_two_processes_train_one_run(tmp_path):
    """DDP over gloo: same files as one process writes, averaged gradients."""
    finish(start(tmp_path / "two", TEST_DEVICES="2"))
    run_tiny(tmp_path / "one")
    names = [
        {p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*") if p.is_file()}
        for n in ("one", "two")
    ]
    assert names[0] == names[1]
    rows = [(tmp_path / n / "metrics.csv").read_text().count("\n") for n in ("one", "two")]
    assert rows[0] == rows[1]


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file may be longer than so many bytes: as on a full disk, but with an end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_names_the_file_and_the_run_goes_on_when_there_is_room(straight, tmp_path):
    out = tmp_path / "run"
    with room(4000), pytest.raises(UserError) as caught:  # last.ckpt takes more
        run_tiny(out)
    assert str(caught.value) == (
        f"{out}/stages/00-a/last.ckpt: cannot be written (File too large); make room, and the same "
        "command goes on where it was saved, or give another out=DIR"
    )
    assert not [*out.rglob(".last*")]
    run_tiny(out)
    assert_same_run(straight, out)


def test_a_temporary_folder_is_not_needed(straight, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    run_tiny(tmp_path / "run")
    assert_same_run(straight, tmp_path / "run")
