import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from stagewise_kd.comparison import report
from stagewise_kd.comparison.compare import compare
from stagewise_kd.comparison.figures import graft_scores, learning_curves
from stagewise_kd.comparison.page import Exhibit
from stagewise_kd.comparison.report import print_result, print_table, results_table
from stagewise_kd.comparison.runs import read_result, read_runs, told_apart
from stagewise_kd.comparison.settings import chosen, differences
from stagewise_kd.comparison.table import shown, summary
from stagewise_kd.comparison.trends import cost_and_score, fraction_scores, pareto_front
from stagewise_kd.system.errors import UserError
from tests.fake_runs import COST, segmentation, write_run


@pytest.fixture
def study(tmp_path) -> Path:
    """Stagewise with three seeds, stagewise on few labels, and no_teacher."""
    for seed, score in enumerate((0.80, 0.82, 0.84)):
        write_run(tmp_path / "study" / f"full-{seed}", score, seed, data={"label_fraction": 1.0})
    write_run(tmp_path / "study" / "few", 0.75, data={"label_fraction": 0.1})
    write_run(tmp_path / "study" / "none", 0.63, method="no_teacher")
    return tmp_path / "study"


def table_of(*paths: Path) -> pd.DataFrame:
    return summary(told_apart(read_runs(paths)))


class TestTable:
    def test_seeds_are_one_row_with_mean_and_deviation(self, study):
        table = table_of(study)
        row = table[table["settings"] == "label_fraction=1.0"].iloc[0]
        assert row["seeds"] == 3
        assert row["accuracy"] == pytest.approx(0.82)
        assert row["accuracy_std"] == pytest.approx(0.02)  # of a sample: sqrt(2 * 0.02**2 / 2)
        assert row["share_of_teacher"] == pytest.approx(0.82 / 0.9)
        assert row["seconds"] == pytest.approx(101)
        assert row["images_seen"] == 6000
        assert row["epochs"] == 6  # two for each of three stages

    def test_teacher_is_the_first_row_and_the_measure_of_all(self, study):
        table = table_of(study)
        assert list(table["method"]) == ["teacher", "stagewise", "stagewise", "no_teacher"]
        teacher, alone = table.iloc[0], table.iloc[3]
        assert (teacher["network"], teacher["accuracy"]) == ("resnet34", 0.9)
        assert teacher["macs"] == 80_000_000
        assert alone["share_of_teacher"] == pytest.approx(0.63 / 0.9)
        assert pd.isna(alone["accuracy_std"])

    def test_a_seed_run_twice_counts_once(self, tmp_path):
        for name, seed, score in (("a", 0, 0.7), ("b", 0, 0.8), ("c", 1, 0.85)):
            write_run(tmp_path / name, score, seed)
        row = table_of(tmp_path).iloc[1]
        assert row["seeds"] == 2
        assert row["accuracy"] == pytest.approx((0.75 + 0.85) / 2)

    def test_the_same_folder_given_twice_counts_once(self, study):
        assert len(read_runs([study, study / "few"])) == 5

    def test_latency_of_several_devices_is_left_out(self, tmp_path):
        write_run(tmp_path / "a")
        cost = read_result(tmp_path / "a")["cost"] | {"device": "another"}
        write_run(tmp_path / "b", seed=1, cost=cost)
        row = table_of(tmp_path).iloc[1]
        assert row["device"] == "several"
        assert pd.isna(row["latency_ms"])
        assert row["macs"] == 20_000_000

    def test_no_teacher_anywhere(self, tmp_path):
        write_run(tmp_path / "run", method="no_teacher")
        table = table_of(tmp_path)
        assert list(table["method"]) == ["no_teacher"]
        assert "" in list(shown(table, ["accuracy"])["of teacher"])


class TestDataSets:
    def write(self, path: Path, content: str, root: str, score: float, **facts: Any) -> None:
        write_run(path, score, dataset_hash=content, dataset="photos", data={"root": root}, **facts)

    def test_each_content_is_a_row_and_a_reference_of_its_own(self, tmp_path):
        for home, content, scores in (("a", "1" * 64, (0.3, 0.2)), ("b", "2" * 64, (0.07, 0.9))):
            for method, score in zip(("stagewise", "no_teacher"), scores, strict=True):
                root = f"/{home}/photos"
                self.write(tmp_path / home / method, content, root, score, method=method)
        comparison = compare([tmp_path], tmp_path / "out")
        students = comparison.table[comparison.table["method"] != "teacher"]
        rows = students[["dataset", "method", "accuracy"]].values.tolist()
        assert rows == [
            ["photos (a)", "no_teacher", 0.2],
            ["photos (a)", "stagewise", 0.3],
            ["photos (b)", "no_teacher", 0.9],
            ["photos (b)", "stagewise", 0.07],
        ]
        assert list(comparison.differences["difference"]) == pytest.approx([-0.1, 0.83])
        assert "4 runs on photos (a), photos (b)" in comparison.page.read_text()

    def test_a_folder_that_has_changed_is_told_by_its_content(self, tmp_path):
        for seed, content in enumerate(("1" * 64, "2" * 64)):
            self.write(tmp_path / str(seed), content, "/a/photos", 0.5, seed=seed)
        found = [group["dataset"] for group in told_apart(read_runs([tmp_path]))]
        assert found == ["photos (111111)", "photos (222222)"]

    def test_the_same_content_elsewhere_is_the_same_data_set(self, tmp_path):
        for seed, root in enumerate(("/a/photos", "/b/copy")):
            name = Path(root).name
            facts = {"dataset": name, "data": {"root": root}, "dataset_hash": "1" * 64}
            write_run(tmp_path / str(seed), 0.5, seed, **facts)
        (group,) = told_apart(read_runs([tmp_path]))
        assert (group["dataset"], len(group.runs)) == ("photos", 2)


class TestLatency:
    """Two methods on one student; the second was run on a busy machine."""

    @pytest.fixture
    def runs(self, tmp_path) -> Path:
        equal = {"student": "a" * 64, "teacher": "b" * 64}
        write_run(tmp_path / "runs" / "idle", architectures=equal)
        cost = COST | {name: COST[name] | {"latency_ms": 40.0} for name in equal}
        more = {"method": "simultaneous", "cost": cost | {"latency_ratio": 0.3}}
        write_run(tmp_path / "runs" / "busy", architectures=equal, **more)
        return tmp_path / "runs"

    def test_equal_networks_have_one_figure_and_the_page_says_so(self, runs, tmp_path):
        comparison = compare([runs], tmp_path / "out")
        assert list(comparison.table["latency_ms"]) == [6.0, 1.5, 1.5]
        assert list(comparison.text["latency"]) == ["6.00 ms", "1.50 ms (0.30×)", "1.50 ms"]
        html = comparison.page.read_text()
        assert "(resnet10 1.5 to 40 ms; resnet34 6 to 40 ms)" in html

    def test_other_networks_keep_their_own(self, runs, tmp_path):
        cost = COST | {"student": COST["student"] | {"latency_ms": 2.5}}
        write_run(
            tmp_path / "other", architectures={"student": "c" * 64}, cost=cost, method="hinton"
        )
        table = table_of(tmp_path / "other", runs)
        assert sorted(table["latency_ms"]) == [1.5, 1.5, 2.5, 6.0]


class TestTelling:
    def test_options_of_a_method_are_compared_within_it(self, study):
        names = [group.name for group in told_apart(read_runs([study]))]
        assert names == [
            "stagewise, label_fraction=0.1",
            "stagewise, label_fraction=1.0",
            "no_teacher",
        ]

    def test_places_and_tracker_tell_nothing_apart(self, tmp_path):
        write_run(tmp_path / "a")
        other = {"tracker": {"_target_": "x"}, "workers": 4, "schedule": "concurrent"}
        write_run(tmp_path / "b", seed=1, config=other)
        assert len(told_apart(read_runs([tmp_path]))) == 1

    def test_the_budget_is_one_of_methods_of_one_stage(self):
        config = {"method": {"_target_": "x"}, "budget": "matched", "epochs": 5}
        assert [*chosen(config)] == ["method", "epochs"]
        assert [*chosen(config, budgeted=True)] == ["method", "budget", "epochs"]

    def test_settings_that_repeat_another_are_left_out(self):
        configs = [
            {"lr": lr, "optimizer": {"_target_": "torch.optim.Adam", "lr": lr}, "epochs": 5}
            for lr in (0.1, 0.2)
        ]
        assert differences([chosen(config) for config in configs]) == [{"lr": "0.1"}, {"lr": "0.2"}]

    def test_functions_are_named_by_their_last_part(self):
        look_up = {"_target_": "hydra.utils.get_method", "path": "cls_kd.transforms.none"}
        made = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}
        assert chosen({"augment": look_up, "optimizer": made, "seed": 3}) == {
            "augment": "none",
            "optimizer": "SGD",
            "optimizer.lr": 0.1,
        }

    def test_another_teacher_of_the_same_kind(self, tmp_path):
        write_run(tmp_path / "a", teacher_hash="aaaaaaaaaa")
        write_run(tmp_path / "b", teacher_hash="bbbbbbbbbb")
        groups = told_apart(read_runs([tmp_path]))
        assert [group.settings for group in groups] == [
            {"teacher_weights": "aaaaaaaa"},
            {"teacher_weights": "bbbbbbbb"},
        ]

    def test_protocol_and_fraction_are_in_the_label(self, tmp_path):
        write_run(tmp_path / "a", data_fraction=0.25)
        write_run(tmp_path / "b", data_fraction=0.25, protocol="paper")
        text = shown(table_of(tmp_path), ["accuracy"])
        assert list(text["method"]) == ["teacher", "stagewise", "stagewise (paper protocol)"]
        assert list(text["data"]) == ["", "25%", "25%"]

    def test_a_run_trained_for_others_is_not_part_of_their_study(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write_run(Path("runs/shapes/a"))
        store = write_run(Path("runs/teachers/resnet34"), method="no_teacher")
        assert [run.path.name for run in read_runs([Path("runs")])] == ["a"]
        assert len(read_runs([Path("runs"), store])) == 2


def test_the_page_says_where_a_teacher_may_have_seen_the_validation_images(tmp_path):
    for name, seen in (("a", True), ("b", False)):
        run = write_run(tmp_path / name, val_may_be_seen=seen)
        compare([run], tmp_path / f"out_{name}")
        page = (tmp_path / f"out_{name}" / "index.html").read_text()
        assert ("which a teacher trained elsewhere may have seen" in page) == seen


def test_the_latency_of_what_is_shipped_stands_beside(tmp_path):
    shipped = COST | {"shipped": {"latency_ms": 0.5}}
    paths = [write_run(tmp_path / "a", cost=shipped), write_run(tmp_path / "b", method="hinton")]
    table = table_of(*paths)
    assert shown(table, ["accuracy"])["as shipped"].tolist() == ["", "0.50 ms", ""]
    assert "shipped_ms" not in table_of(paths[1])
    figure = cost_and_score(told_apart(read_runs(paths)), table)
    assert [axes.get_xlabel() for axes in figure.axes][2:] == [
        "latency for one image as shipped, ms"
    ]


def test_tasks_do_not_mix(tmp_path):
    a = write_run(tmp_path / "a")
    b = write_run(tmp_path / "b", **segmentation(0.6))
    with pytest.raises(UserError, match=r"different tasks.*a by accuracy, .*b by miou"):
        compare([a, b], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unfinished_run(tmp_path):
    with pytest.raises(UserError, match="holds no finished run"):
        compare([tmp_path / "nowhere"], tmp_path / "out")


def test_out_that_cannot_be_written(study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        compare([study], tmp_path / "file" / "out")


def test_pareto_front():
    points = [(80, 0.90), (20, 0.80), (20, 0.75), (40, 0.80), (10, 0.60), (40, 0.85), (20, 0.80)]
    assert pareto_front(points) == [0, 1, 4, 5, 6]
    assert pareto_front([]) == []


class TestFractions:
    @pytest.fixture
    def figure(self, tmp_path) -> Figure:
        for fraction, epochs, scores in ((0.25, 8, (0.6, 0.7)), (1.0, 2, (0.8, 0.9))):
            for seed, score in enumerate(scores):
                for method in ("stagewise", "no_teacher"):
                    name = f"{method}-{fraction}-{seed}"
                    lower = score - 0.1 * (method == "no_teacher")
                    config = {"epochs": epochs}
                    facts = {"method": method, "data_fraction": fraction, "config": config}
                    write_run(tmp_path / name, lower, seed, **facts)
        groups = told_apart(read_runs([tmp_path]))
        figure = fraction_scores(groups, summary(groups), "data_fraction")
        assert figure is not None
        return figure

    def test_a_line_a_method_whatever_the_epochs(self, figure):
        (axes,) = figure.axes
        drawn = {
            line.get_color(): (list(line.get_xdata()), list(line.get_ydata()))
            for line in axes.lines
            if line.get_marker() == "o"
        }
        assert [places for places, _ in drawn.values()] == [[0.25, 1.0]] * 2
        scores = sorted(scores for _, scores in drawn.values())
        assert scores == [pytest.approx([0.55, 0.75]), pytest.approx([0.65, 0.85])]
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        assert sorted(names) == ["no_teacher", "stagewise", "teacher"]

    def test_error_bars_and_the_teacher(self, figure):
        (axes,) = figure.axes
        heights = {
            round(float(np.ptp(path[:, 1])), 6)
            for bars in axes.collections
            for path in bars.get_segments()
        }
        assert heights == {round(2 * 0.05 * 2**0.5, 6)}  # a deviation of 0.0707 up and down
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [set(line.get_ydata()) for line in dashed] == [{0.9}]

    def test_one_fraction_is_not_drawn(self, tmp_path):
        write_run(tmp_path / "a")
        groups = told_apart(read_runs([tmp_path]))
        assert fraction_scores(groups, summary(groups), "data_fraction") is None


class TestGrafts:
    def figure(self, folder: Path) -> Figure | None:
        return graft_scores(told_apart(read_runs([folder])))

    def test_the_teacher_is_of_the_same_split(self, tmp_path):
        write_run(tmp_path / "a", teacher_val_metrics={"accuracy": 0.97})
        figure = self.figure(tmp_path)
        assert figure is not None
        graft, teacher = figure.axes[0].lines
        assert list(graft.get_ydata()) == [0.85, 0.85]
        assert set(teacher.get_ydata()) == {0.97}  # 0.9 on the test split

    def test_a_single_score_is_not_drawn(self, tmp_path):
        path = write_run(tmp_path / "a")
        stages = [s for s in read_result(path)["stages"] if s["name"] != "stem"]
        write_run(tmp_path / "b" / "c", stages=stages)
        assert self.figure(tmp_path / "b") is None

    def test_equal_curves_do_not_hide_each_other(self, tmp_path):
        for n, lr in enumerate((0.1, 0.2, 0.3)):
            write_run(tmp_path / str(n), config={"lr": lr})
        figures = [self.figure(tmp_path), learning_curves(told_apart(read_runs([tmp_path])))]
        for figure in figures:
            drawn = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
            assert [line.get_linewidth() for line in drawn] == [7.5, 4.5, 1.5]


class TestFiles:
    def test_tables(self, study, tmp_path):
        comparison = compare([study], tmp_path / "out")
        kept = pd.read_csv(tmp_path / "out" / "table.csv")
        assert list(kept["accuracy"]) == pytest.approx([0.9, 0.75, 0.82, 0.63])
        lines = (tmp_path / "out" / "table.md").read_text().splitlines()
        assert len(lines) == 2 + len(comparison.table)
        assert "| 0.8200 ± 0.0200 | 3 | 91.1% |" in lines[4]
        assert len({line.count("|") for line in lines}) == 1

    def test_figures_show_something(self, study, tmp_path):
        comparison = compare([study], tmp_path / "out")
        assert list(comparison.figures) == ["curves", "graft", "labels", "pareto", "seconds"]
        for path in comparison.figures.values():
            picture = np.asarray(Image.open(path).convert("RGB"))
            assert min(picture.shape[:2]) > 400
            assert len(np.unique(picture[::3, ::3].reshape(-1, 3), axis=0)) > 50
            assert path.with_suffix(".svg").read_text().count("<path") > 20

    def test_segmentation_has_classes_and_its_decoder(self, tmp_path):
        write_run(tmp_path / "a", **segmentation(0.6, sky=0.9, pole=0.3))
        write_run(tmp_path / "b", **segmentation(0.5, sky=0.8, pole=float("nan")), student="mini")
        comparison = compare([tmp_path], tmp_path / "out")
        assert "classes" in comparison.figures
        assert "graft" not in comparison.figures
        assert "decoder" in comparison.text
        assert "test miou" in comparison.text

    def test_no_axis_of_one_fraction_or_of_several_devices(self, tmp_path):
        write_run(tmp_path / "a")
        cost = read_result(tmp_path / "a")["cost"] | {"device": "another"}
        write_run(tmp_path / "b", method="no_teacher", cost=cost)
        comparison = compare([tmp_path], tmp_path / "out")
        assert list(comparison.figures) == ["curves", "graft", "pareto"]

    def test_figures_of_several_data_sets_are_apart(self, tmp_path):
        write_run(tmp_path / "a")
        write_run(tmp_path / "b", dataset="cifar10")
        comparison = compare([tmp_path], tmp_path / "out")
        assert {"pareto-shapes", "pareto-cifar10"} <= set(comparison.figures)
        assert list(comparison.text["dataset"]) == ["cifar10", "cifar10", "shapes", "shapes"]

    def test_same_runs_same_files(self, study, tmp_path):
        for out in ("one", "two"):
            compare([study], tmp_path / out)
        for file in (tmp_path / "one").iterdir():
            assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


class TestPage:
    @pytest.fixture
    def html(self, study, tmp_path) -> str:
        flat = np.zeros((20, 30, 3), np.uint8)
        noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
        gallery = [Exhibit("a<b.png, mIoU 0.41", [("image", noise), ("truth", flat)])]
        return compare([study], tmp_path / "out", gallery).page.read_text()

    def test_needs_nothing_else(self, html):
        found = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'>]{0,40})""", html)
        assert len(found) == 7
        assert all(url.startswith("data:image/") for url in found)
        assert "url(" not in html
        assert "@import" not in html

    def test_fits_a_phone_and_the_dark(self, html):
        assert 'name="viewport" content="width=device-width' in html
        assert "prefers-color-scheme: dark" in html

    def test_names_every_run(self, html, study):
        for run in study.iterdir():
            assert f"<code>{run}</code>" in html
        assert "0.8200 ± 0.0200" in html

    def test_gallery(self, html):
        assert "<h3>a&lt;b.png, mIoU 0.41</h3>" in html
        assert "data:image/jpeg" in html
        assert "<figcaption>truth</figcaption>" in html


class TestTerminal:
    @pytest.fixture(autouse=True)
    def console(self, monkeypatch) -> Console:
        console = Console(record=True, width=80, force_terminal=True)
        monkeypatch.setattr(report, "console", console)
        return console

    @pytest.mark.parametrize("width", [80, 50])
    def test_a_narrow_terminal_shows_every_figure(self, study, monkeypatch, width):
        console = Console(record=True, width=width, force_terminal=True)
        monkeypatch.setattr(report, "console", console)
        table = shown(table_of(study), ["accuracy"])
        print_table(table)
        text = console.export_text()
        for name in table:
            assert name in text
        for cell in table.drop(columns="method").to_numpy().flat:
            assert cell in text
        assert "label_fraction=0.1" in text
        assert max(map(len, text.splitlines())) <= width

    def test_a_wide_terminal_has_one_table(self, study, monkeypatch):
        console = Console(record=True, width=200, force_terminal=True)
        monkeypatch.setattr(report, "console", console)
        print_table(shown(table_of(study), ["accuracy"]))
        assert console.export_text().count("network") == 1

    def test_one_result(self, study, console):
        print_result(read_result(study / "few"), study / "few")
        text = console.export_text()
        assert "0.7500" in text
        assert "83.3%" in text
        assert results_table([read_result(study / "few")]).row_count == 2
