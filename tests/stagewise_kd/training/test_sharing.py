import json
import shutil
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from stagewise_kd.runs.experiment import run_experiment
from stagewise_kd.system.run_folder import open_run
from tests.conftest import Pictures, tiny_net
from tests.engine import experiment, make_setup
from tests.stagewise_kd.training.test_stages import assert_same_run


class Figures:
    """A tracker that keeps what it is given."""

    def __init__(self) -> None:
        self.logged = []

    def log(self, stage, epoch, step, values) -> None:
        self.logged.append((stage, epoch, step, values))

    def finish(self, result, run_folder) -> None:
        pass


def run(out: Path, shares: bool = True, change=lambda setup: setup, config=None, **options):
    """Run a tiny experiment; other runs beside it know of its stages."""
    setup = change(make_setup(6, reuse=out.parent / "stages" if shares else None))
    made = experiment(setup, **{"epochs": 1} | options)
    with open_run(out) as folder:
        return run_experiment(replace(made, config=config or made.config), folder)


def sources(result) -> dict[str, str]:
    return {stage["name"]: stage["from"] for stage in result["stages"] if "from" in stage}


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A finished run whose stages are a, b and head, in a folder of its own."""
    out = tmp_path_factory.mktemp("runs") / "first"
    run(out)
    return out


@pytest.fixture
def beside(first, tmp_path) -> Path:
    """A copy of it with all that it has told other runs."""
    shutil.copytree(first.parent, tmp_path / "runs")
    return tmp_path / "runs"


def test_another_head_takes_the_features_as_if_it_had_trained_them(beside):
    tracker = Figures()
    options = {"finetune_epochs": 2, "change": lambda s: with_tracker(s, tracker)}
    result = run(beside / "second", **options)
    assert sources(result) == dict.fromkeys(("a", "b", "head"), "../first")
    seen = [(stage, epoch) for stage, epoch, _, _ in tracker.logged]
    run(beside / "alone", shares=False, **options)
    assert_same_run(beside / "alone", beside / "second")
    assert tracker.logged[: len(seen)] == tracker.logged[len(seen) :]
    theirs = json.loads((beside / "first" / "result.json").read_text())["stages"]
    assert [s["seconds"] for s in result["stages"][:3]] == [s["seconds"] for s in theirs]


def with_tracker(setup, tracker):
    return replace(setup, fitting=replace(setup.fitting, tracker=tracker))


def other_labels(setup):
    train = Pictures(48, 0)
    train.labels[0] = (train.labels[0] + 1) % 3
    return replace(setup, data=replace(setup.data, train=train))


def other_head(setup):
    with torch.no_grad():
        setup.student.model["head"][2].bias += 1
    return setup


def other_block(setup):
    with torch.no_grad():
        setup.student.model["b"][0].weight[0, 0, 0, 0] += 1
    return setup


def other_activation(setup):
    setup.student.model["b"][2] = torch.nn.ReLU6()
    return setup


CHANGES = {
    "settings": ({"config": "tiny: false\n"}, set()),
    "epochs": ({"epochs": 2}, set()),
    "seed": (
        {"change": lambda s: replace(s, fitting=replace(s.fitting, seed=1))},
        set(),
    ),
    "labels": ({"change": other_labels}, set()),
    "teacher": ({"change": lambda s: replace(s, teacher=tiny_net(6, seed=3))}, set()),
    "the student's head": ({"change": other_head}, {"a", "b"}),
    "a block of the student": ({"change": other_block}, {"a"}),
    "an activation": ({"change": other_activation}, {"a"}),
    "fewer features": ({"n_features": 1}, {"a"}),
    "all at the same time": ({"schedule": "concurrent"}, set()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_depends_on_a_change_is_trained(beside, name):
    options, same = CHANGES[name]
    assert sources(run(beside / "second", **options)).keys() == same


def test_a_deleted_run_is_not_missed_and_one_in_its_place_not_taken(beside):
    shutil.rmtree(beside / "first")
    assert sources(run(beside / "second")) == {}
    shutil.rmtree(beside / "second")
    run(beside / "second", shares=False, epochs=2)
    assert sources(run(beside / "third")) == {}
    assert sources(run(beside / "fourth")) == dict.fromkeys(("a", "b", "head"), "../third")


def test_a_stage_that_another_run_trains_is_waited_for(beside, capsys):
    told = {path: path.read_text() for path in (beside / "stages").glob("*.json")}
    locks = [FileLock(path.with_suffix(".lock")) for path in told]
    for path in told:
        path.unlink()

    def finish() -> None:
        with ExitStack() as held:
            for lock in locks:
                held.enter_context(lock)
            started.set()
            time.sleep(1.5)  # the line comes after one second
            for path, text in told.items():
                path.write_text(text)

    started = threading.Event()
    other = threading.Thread(target=finish)
    other.start()
    started.wait()
    result = run(beside / "second")
    other.join()
    assert sources(result) == dict.fromkeys(("a", "b", "head"), "../first")
    assert "a: another run trains the same stage; waiting for it" in capsys.readouterr().err


def test_stages_that_cannot_be_told_are_trained(tmp_path):
    (tmp_path / "stages").write_text("a file in the way")
    assert sources(run(tmp_path / "first")) == {}
