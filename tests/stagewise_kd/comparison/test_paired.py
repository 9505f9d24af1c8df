from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stagewise_kd.comparison.compare import compare
from stagewise_kd.comparison.paired import clear_winners, differences, interval, shown
from stagewise_kd.comparison.runs import read_runs, told_apart
from stagewise_kd.comparison.scratch import ahead
from tests.fake_runs import segmentation, write_run


def write_seeds(folder: Path, name: str, scores: list[float], **options: Any) -> None:
    for seed, score in enumerate(scores):
        write_run(folder / f"{name}-{seed}", score, seed, **options)


def differences_of(folder: Path) -> pd.DataFrame:
    return differences(told_apart(read_runs([folder])))


class TestInterval:
    def test_agrees_with_all_resamples(self):
        values = np.array([0.01, -0.02, 0.03, 0.08])
        means = [np.mean(drawn) for drawn in product(values, repeat=4)]
        expected = np.percentile(means, (2.5, 97.5))
        assert interval(values) == pytest.approx(expected, abs=0.0026)  # one step of the means

    def test_three_values_reach_from_the_least_to_the_greatest(self):
        # the same value three times has a chance of 1/27, more than 2.5 %
        assert interval(np.array([1.0, 2.0, 6.0])) == pytest.approx((1, 6))

    def test_two_values_are_too_few(self):
        assert interval(np.array([1.0, 2.0])) is None


class TestDifferences:
    def test_seeds_are_paired(self, tmp_path):
        write_seeds(tmp_path, "s", [0.80, 0.90, 0.70, 0.60])
        write_seeds(tmp_path, "n", [0.79, 0.87, 0.68], method="no_teacher", images_seen=9000)
        (row,) = differences_of(tmp_path).to_dict("records")
        assert (row["method"], row["against"]) == ("no_teacher", "stagewise")
        assert row["pairs"] == 3  # the fourth seed has no partner
        assert row["difference"] == pytest.approx(-0.02)
        assert (row["low"], row["high"]) == pytest.approx((-0.03, -0.01))
        assert (row["images_seen"], row["images_seen_against"]) == (9000, 6000)

    def test_a_seed_run_twice_is_one_pair(self, tmp_path):
        write_seeds(tmp_path, "s", [0.8])
        write_run(tmp_path / "again", 0.6)
        write_seeds(tmp_path, "n", [0.6], method="no_teacher")
        (row,) = differences_of(tmp_path).to_dict("records")
        assert row["pairs"] == 1
        assert row["difference"] == pytest.approx(-0.1)

    def test_too_few_pairs_say_so(self, tmp_path):
        write_seeds(tmp_path, "s", [0.80, 0.90])
        write_seeds(tmp_path, "n", [0.79, 0.87], method="no_teacher")
        text = shown(differences_of(tmp_path))
        assert list(text["95 % interval"]) == ["fewer than 3 pairs"]
        assert list(text["difference in accuracy"]) == ["-0.0200"]

    @pytest.mark.parametrize(
        "other",
        [
            {"data_fraction": 0.25},
            {"student": "resnet14"},
            {"protocol": "paper"},
            {"data": {"label_fraction": 0.1}},
            {"data": {"size": 64}},
        ],
    )
    def test_other_conditions_are_not_held_against_each_other(self, tmp_path, other):
        write_run(tmp_path / "a", data=other.pop("data", {"label_fraction": 1.0}), **other)
        write_run(tmp_path / "b", method="no_teacher", data={"label_fraction": 1.0})
        assert differences_of(tmp_path).empty

    def test_a_start_with_the_teachers_weights_is_held_against_a_random_one(self, tmp_path):
        for name, method, init in (
            ("s", "stagewise", None),
            ("n", "no_teacher", None),
            ("h", "hinton", "random"),
        ):
            config = {"student": {"name": "resnet10", "init": init}}
            write_run(tmp_path / name, method=method, config=config)
        found = differences_of(tmp_path)
        assert set(zip(found["method"], found["against"], strict=True)) == {
            ("no_teacher, student.init=random", "stagewise, student.init=teacher"),
            ("hinton, student.init=random", "stagewise, student.init=teacher"),
        }
        config = {"student": {"name": "resnet10", "init": "random"}}
        write_run(tmp_path / "r", config=config)
        found = differences_of(tmp_path)
        assert set(found["against"]) == {"stagewise, student.init=random"}

    def test_variants_are_held_against_the_method_as_described(self, tmp_path):
        write_run(tmp_path / "a", options={"schedule": "sequential", "head": "labels"})
        write_run(tmp_path / "b", options={"schedule": "concurrent", "head": "labels"})
        write_run(tmp_path / "c", options={"schedule": "sequential", "head": "teacher"})
        write_run(tmp_path / "d", method="hinton")
        found = differences_of(tmp_path)
        assert set(found["against"]) == {"stagewise, head=labels, schedule=sequential"}
        assert len(found) == 3

    def test_decoders_against_their_own_and_the_default_one(self, tmp_path):
        for decoder in ("default", "matched"):
            for method in ("stagewise", "no_teacher"):
                facts = segmentation(0.6) | {"decoder": decoder}
                config = {"decoder": {"name": decoder}}
                write_run(tmp_path / f"{decoder}-{method}", method=method, config=config, **facts)
        found = differences_of(tmp_path)
        assert set(zip(found["method"], found["against"], strict=True)) == {
            ("no_teacher, decoder=default", "stagewise, decoder=default"),
            ("no_teacher, decoder=matched", "stagewise, decoder=matched"),
            ("stagewise, decoder=matched", "stagewise, decoder=default"),
        }

    def test_several_references_are_matched_by_their_settings(self, tmp_path):
        for lr in (0.1, 0.2):
            for method in ("stagewise", "no_teacher"):
                write_run(tmp_path / f"{lr}-{method}", method=method, config={"lr": lr})
        found = differences_of(tmp_path)
        assert set(zip(found["method"], found["against"], strict=True)) == {
            ("no_teacher, lr=0.1", "stagewise, lr=0.1"),
            ("no_teacher, lr=0.2", "stagewise, lr=0.2"),
        }


class TestWinners:
    def winners(self, folder: Path) -> set[str]:
        return clear_winners(told_apart(read_runs([folder])))

    def test_ahead_of_everyone(self, tmp_path):
        write_seeds(tmp_path, "s", [0.80, 0.82, 0.84])
        write_seeds(tmp_path, "n", [0.79, 0.81, 0.82], method="no_teacher")
        write_seeds(tmp_path, "h", [0.70, 0.81, 0.83], method="hinton")
        assert self.winners(tmp_path) == {"stagewise"}

    def test_within_the_noise_of_one(self, tmp_path):
        write_seeds(tmp_path, "s", [0.80, 0.82, 0.84])
        write_seeds(tmp_path, "n", [0.60, 0.61, 0.62], method="no_teacher")
        write_seeds(tmp_path, "h", [0.70, 0.81, 0.85], method="hinton")
        assert self.winners(tmp_path) == set()

    def test_too_few_seeds(self, tmp_path):
        write_seeds(tmp_path, "s", [0.80, 0.82])
        write_seeds(tmp_path, "n", [0.60, 0.61], method="no_teacher")
        assert self.winners(tmp_path) == set()

    def test_alone(self, tmp_path):
        write_seeds(tmp_path, "s", [0.80, 0.82, 0.84])
        assert self.winners(tmp_path) == set()


class TestFromScratch:
    """A teacher that knows no more than the data does."""

    def said(self, folder: Path) -> list[str]:
        return ahead(told_apart(read_runs([folder])))

    def test_the_report_says_so(self, tmp_path):
        write_seeds(tmp_path / "study", "s", [0.70, 0.72, 0.74])
        write_seeds(tmp_path / "study", "h", [0.60, 0.62, 0.64], method="hinton")
        write_seeds(tmp_path / "study", "n", [0.79, 0.81, 0.83], method="no_teacher")
        comparison = compare([tmp_path / "study"], tmp_path / "out")
        (line,) = comparison.no_gain
        assert line.startswith(
            "shapes: resnet10 reaches accuracy 0.8100 from scratch (no_teacher), and at most "
            "0.7200 with the teacher (stagewise). This teacher knows no more than the labels"
        )
        assert line in comparison.page.read_text()
        assert line in (tmp_path / "out" / "table.md").read_text()

    def test_students_that_start_with_the_teachers_weights_count(self, tmp_path):
        config = {"student": {"name": "resnet10", "init": None}}
        write_seeds(tmp_path, "s", [0.70, 0.72, 0.74], config=config)
        write_seeds(tmp_path, "n", [0.79, 0.81, 0.83], method="no_teacher", config=config)
        assert "student.init=random), and at most 0.7200 with the teacher" in self.said(tmp_path)[0]
        random = {"student": {"name": "resnet10", "init": "random"}}
        write_seeds(tmp_path, "r", [0.80, 0.82, 0.84], config=random)
        assert self.said(tmp_path) == []

    def test_few_seeds_are_a_hint(self, tmp_path):
        write_seeds(tmp_path, "s", [0.70])
        write_seeds(tmp_path, "n", [0.71], method="no_teacher", data={"fraction": 1.0})
        assert "(stagewise) (1 seed: a hint, no more)." in self.said(tmp_path)[0]

    def test_a_student_that_starts_from_weights_is_none_from_scratch(self, tmp_path):
        write_seeds(tmp_path, "s", [0.70, 0.72, 0.74])
        start = {"student": {"name": "resnet10", "init": "/runs/first"}}
        write_seeds(tmp_path, "n", [0.81, 0.81, 0.81], method="no_teacher", config=start)
        assert self.said(tmp_path) == []

    @pytest.mark.parametrize(
        ("taught", "options"),
        [
            ([0.80, 0.82, 0.84], {}),  # better
            ([0.70, 0.80, 0.90], {}),  # worse by less than the noise
            ([0.70, 0.70, 0.70], {"head": "teacher"}),  # has seen no label
        ],
    )
    def test_nothing_to_say(self, tmp_path, taught, options):
        write_seeds(tmp_path, "s", taught, options=options)
        write_seeds(tmp_path, "n", [0.81, 0.81, 0.81], method="no_teacher")
        assert self.said(tmp_path) == []


def test_files_and_page(tmp_path):
    write_seeds(tmp_path / "study", "s", [0.80, 0.82, 0.84])
    write_seeds(tmp_path / "study", "n", [0.79, 0.81, 0.82], method="no_teacher")
    comparison = compare([tmp_path / "study"], tmp_path / "out")
    kept = pd.read_csv(tmp_path / "out" / "differences.csv")
    assert list(kept["difference"]) == pytest.approx([-0.04 / 3])
    assert "| -0.0133 | -0.0200 to -0.0100 | 3 |" in (tmp_path / "out" / "table.md").read_text()
    html = comparison.page.read_text()
    assert "<h2>Differences</h2>" in html
    assert "<td>-0.0200 to -0.0100</td>" in html
    (best,) = html.split('<tr class="best">')[1:]
    assert "0.8200 ± 0.0200" in best.split("</tr>")[0]


def test_nothing_to_hold_against_each_other(tmp_path):
    write_seeds(tmp_path / "study", "s", [0.80])
    comparison = compare([tmp_path / "study"], tmp_path / "out")
    assert not (tmp_path / "out" / "differences.csv").exists()
    assert "<h2>Differences</h2>" not in comparison.page.read_text()
