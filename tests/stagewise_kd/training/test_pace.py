"""Steps, passes over few images, and how often those are validated."""

import csv
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from stagewise_kd.data.loaders import train_loader
from stagewise_kd.data.pace import Pace, paced
from stagewise_kd.methods.plan import in_steps
from stagewise_kd.runs.experiment import run_experiment
from stagewise_kd.system.run_folder import open_run
from stagewise_kd.training.recorder import Recorder
from tests.conftest import Pictures
from tests.engine import experiment, make_setup
from tests.stagewise_kd.training.test_stages import assert_same_run


@pytest.mark.parametrize(
    ("counts", "rounds", "last"),
    [
        ((2000, 1, 100, 50), 20, 100),  # 100 images in batches of 64
        ((2010, 1, 100, 50), 21, 10),
        ((280, 7, 450, 50), 20, 14),  # 40 epochs
        ((9750, 195, 12500, 2000), 50, 195),  # a quarter of CIFAR-10: each epoch, as ever
        ((5, 2, 22, 2), 3, 1),
        ((2000, 40, 2600, 5000), 25, 80),  # a large val/ beside few images
    ],
)
def test_a_stage_is_validated_where_that_costs_little(counts, rounds, last):
    pace = paced(*counts)
    lengths = [pace.length(number) for number in range(pace.rounds)]
    assert (len(lengths), lengths[-1], sum(lengths)) == (rounds, last, counts[0])
    assert [n for number in range(rounds) for n in pace.span(number)] == [*range(pace.epochs)]


def test_a_round_is_whole_passes_and_each_pass_a_view():
    loader = train_loader(Pictures(10, 0), 4, 0, 0, views=2, pace=Pace(9, 2, 3))
    loader.dataset.load = keys = []
    for number in range(2):
        loader.sampler.set_epoch(number)
        keys.append([[*batch] for batch in loader.batch_sampler])
        assert len(loader) == len(keys[-1])
    views = [[{view for view, _ in batch} for batch in found] for found in keys]
    assert views == [[{0}, {0}, {1}, {1}, {0}, {0}], [{1}, {1}, {0}]]  # five passes, the last cut
    drawn = [sample for _, sample in keys[0][0] + keys[0][1]]
    assert len({*drawn}) == 8
    assert drawn != [sample for _, sample in keys[0][4] + keys[0][5]]


def rows(out: Path, stage: str) -> list[tuple[int, int]]:
    with (out / "metrics.csv").open(newline="") as file:
        found = [row for row in csv.reader(file) if row[0] == stage and row[3] == "val/loss"]
    return [(int(row[1]), int(row[2])) for row in found]


def few(steps: int, **fitting):
    setup = make_setup(batch_size=16, **fitting)
    made = experiment(setup, epochs=steps)
    return replace(made, plan=in_steps(made.plan))


def test_steps_are_exact_and_resumed_in_the_last_round_equals_straight(tmp_path, monkeypatch):
    """48 images in batches of 16, and 13 steps: three rounds of 2 passes, the last of one step."""
    monkeypatch.setattr("stagewise_kd.data.pace.ROUNDS", 2)
    with open_run(tmp_path / "straight") as run:
        result = run_experiment(few(13), run)
    found = [(s["steps"], s["epochs"], s["images_seen"]) for s in result["stages"]]
    assert found == [(13, 5, 208)] * 3
    assert rows(tmp_path / "straight", "a") == [(1, 6), (3, 12), (4, 13)]
    monkeypatch.setattr("stagewise_kd.training.recorder.TRAINING_PER_SAVING", 0)
    stops = iter([False] * 4 + [True])  # in the last round but one of the second stage

    def stop(recorder, trainer) -> None:
        save(recorder, trainer)
        if next(stops):
            raise RuntimeError

    save = Recorder._save
    with monkeypatch.context() as patch, suppress(RuntimeError), open_run(tmp_path / "cut") as run:
        patch.setattr(Recorder, "_save", stop)
        run_experiment(few(13), run)
    assert len(rows(tmp_path / "cut", "b")) == 2
    with open_run(tmp_path / "cut") as run:
        run_experiment(few(13, workers=1), run)
    assert_same_run(tmp_path / "straight", tmp_path / "cut")
