"""Stages that end early."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stagewise_kd.runs.experiment import run_experiment
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import read_json
from stagewise_kd.system.run_folder import open_run
from tests.engine import experiment, make_setup

FLAT = {"optimizer": partial(torch.optim.SGD, lr=1e-30), "scheduler": None, "graft": False}


def run(folder: Path, setup, **options) -> dict[str, torch.Tensor]:
    with open_run(folder) as opened:
        run_experiment(experiment(setup, epochs=6, **options), opened)
    return load_file(folder / "student" / "model.safetensors")


def epochs(folder: Path) -> list[int]:
    return [stage["epochs"] for stage in read_json(folder / "result.json")["stages"]]


def test_a_stage_that_gets_no_better_ends(tmp_path):
    run(tmp_path / "run", make_setup(**FLAT), patience=2, norm="frozen")
    # one epoch, two that are no better; by labels nothing ends with 24 images, too few to tell
    assert epochs(tmp_path / "run") == [3, 3, 6]


class InTheWay:
    """A tracker that keeps the first stage's best epoch from being written, once all are saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log(self, stage, epoch, step, values):
        if (stage, epoch) == ("a", 2):
            (self.folder / "best.safetensors").mkdir()

    def finish(self, result, folder):
        pass


def test_a_run_that_broke_off_before_its_record_ends_as_a_straight_one(tmp_path):
    options = {"patience": 2, "norm": "frozen"}
    straight = run(tmp_path / "straight", make_setup(**FLAT), **options)
    stage = tmp_path / "broken" / "stages" / "00-a"
    with pytest.raises(OSError):
        run(tmp_path / "broken", make_setup(**FLAT, tracker=InTheWay(stage)), **options)
    assert (stage / "last.ckpt").is_file()
    assert not (stage / "stage.json").exists()
    (stage / "best.safetensors").rmdir()
    found = run(tmp_path / "broken", make_setup(**FLAT), **options)
    assert epochs(tmp_path / "broken") == epochs(tmp_path / "straight") == [3, 3, 6]
    assert all(value.equal(found[name]) for name, value in straight.items())


def test_a_stage_that_gets_better_goes_on(tmp_path):
    run(tmp_path / "run", make_setup(graft=False), patience=5)
    assert epochs(tmp_path / "run") == [6, 6, 6]


@pytest.mark.parametrize("patience", [0, -1, 1.5])
def test_no_patience(patience):
    with pytest.raises(UserError, match=f"patience={patience}: give a whole number from 1 up"):
        experiment(make_setup(), patience=patience)
