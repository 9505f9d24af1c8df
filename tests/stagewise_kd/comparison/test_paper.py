from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stagewise_kd.comparison.compare import compare
from stagewise_kd.comparison.paper import beside
from stagewise_kd.comparison.paper_tables import tables
from stagewise_kd.comparison.runs import read_runs, told_apart
from stagewise_kd.comparison.settings import AS_DESCRIBED, agree, chosen
from stagewise_kd.runs.composing import composing
from stagewise_kd.runs.config import resolved
from tests.fake_runs import segmentation, write_run


def beside_of(folder: Path) -> pd.DataFrame:
    return beside(told_apart(read_runs([folder])))


def cifar(folder: Path, name: str, score: float = 0.8, seed: int = 0, **options: Any) -> None:
    write_run(folder / name, score, seed, **{"dataset": "cifar10", "data": {"size": 32}} | options)


def camvid(folder: Path, name: str, score: float, labels: float = 1.0, **options: Any) -> None:
    facts = segmentation(score) | {"student_metrics": {"miou": score, "miou_paper": score + 0.1}}
    data = {"label_fraction": labels, "size": [360, 480]}
    config = {"decoder": {"name": "default"}}
    write_run(folder / name, data=data, config=config, **facts | options)


def one(table: pd.DataFrame, **wanted: Any) -> "pd.Series[Any]":
    for column, value in wanted.items():
        table = table[table[column] == value]
    (row,) = [row for _, row in table.iterrows()]
    return row


class TestAccuracy:
    def test_ours_beside_theirs(self, tmp_path):
        for seed, score in enumerate((0.80, 0.82, 0.84)):
            cifar(tmp_path, f"s{seed}", score, seed)
        row = one(beside_of(tmp_path), student="resnet10", method="stagewise", metric="accuracy")
        assert (row["dataset"], row["data_fraction"], row["published"]) == ("cifar10", 1, 0.8475)
        assert (row["ours"], row["ours_std"]) == pytest.approx((0.82, 0.02))
        assert (row["seeds"], row["protocol"]) == (3, "holdout")

    def test_table_of_the_published_shape(self, tmp_path):
        for seed, score in enumerate((0.80, 0.82, 0.84)):
            cifar(tmp_path, f"s{seed}", score, seed)
        cifar(tmp_path, "n", 0.7, method="no_teacher", protocol="paper")
        found = tables(beside_of(tmp_path))
        text = found["cifar10, 100% of the data: accuracy; teacher 87.51 published, 90.00 ours"]
        students = ["resnet10", "resnet14", "resnet18", "resnet20", "resnet26"]
        assert list(text["student"]) == students
        first = text.iloc[0]
        assert (first["no_teacher"], first["no_teacher, ours"]) == ("77.88", "70.00 (1)†")
        assert (first["simultaneous"], first["simultaneous, ours"]) == ("77.32", "")
        assert first["stagewise, ours"] == "82.00 ± 2.00 (3)"
        assert first["stagewise − teacher"] == "-2.76"
        assert first["stagewise − teacher, ours"] == "-8.00 ± 2.00 (3)"
        assert list(text["stagewise, ours"])[1:] == [""] * 4

    def test_another_schedule_than_the_published_is_marked(self, tmp_path):
        cifar(tmp_path, "a", 0.82, options={"schedule": "concurrent"})
        (text,) = [t for title, t in tables(beside_of(tmp_path)).items() if "accuracy" in title]
        assert text["stagewise, ours"].iloc[0] == "82.00 (1)‡"

    def test_only_data_that_both_have(self, tmp_path):
        cifar(tmp_path, "a", data_fraction=0.25)
        cifar(tmp_path, "b", data_fraction=0.1)
        cifar(tmp_path, "c", dataset="shapes")
        found = beside_of(tmp_path)
        assert set(found["dataset"]) == {"cifar10"}
        assert set(found["data_fraction"].dropna()) == {0.25}

    @pytest.mark.parametrize(
        "other",
        [
            {"dataset": "shapes"},
            {"teacher": "resnet18"},
            {"method": "hinton"},
            {"options": {"head": "teacher"}},
        ],
    )
    def test_what_was_not_published_is_left_out(self, tmp_path, other):
        cifar(tmp_path / "study", "a", **other)
        compare([tmp_path / "study"], tmp_path / "out")
        scores = beside_of(tmp_path / "study")
        assert scores.empty or set(scores["metric"]) == {"macs", "params"}
        assert "accuracy;" not in (tmp_path / "out" / "index.html").read_text()

    def test_several_of_ours_tell_their_settings(self, tmp_path):
        cifar(tmp_path, "a", 0.8, config={"epochs": 2})
        cifar(tmp_path, "b", 0.7, config={"epochs": 3})
        text = next(iter(tables(beside_of(tmp_path)).values()))
        assert text["stagewise, ours"].iloc[0] == "80.00 (1), epochs=2; 70.00 (1), epochs=3"


def test_cost(tmp_path):
    cifar(tmp_path, "a")
    text = tables(beside_of(tmp_path))["cifar10: cost of one image, published at 224×224"]
    rows = text.set_index("student")
    assert rows["MACs"]["resnet10"] == "896.2 M (24.4%)"
    assert rows["MACs, ours, size=32"]["resnet10"] == "20 M (25.0%)"
    assert rows["params, ours, size=32"]["resnet34"] == "21 M (100.0%)"
    assert rows["MACs, ours, size=32"]["resnet14"] == ""


class TestCamVid:
    def test_scores_of_both_splits(self, tmp_path):
        camvid(tmp_path, "a", 0.3)
        with (tmp_path / "a" / "metrics.csv").open("a") as file:
            file.write("labels,0,0,val/miou_paper,0.9\nlabels,1,10,val/miou_paper,0.55\n")
        found = tables(beside_of(tmp_path))["camvid, 100% of the data: mean IoU"]
        row = one(found, student="resnet10", method="stagewise")
        assert row["decoder"] == "default"
        assert (row["val miou_paper"], row["val miou_paper, ours"]) == ("60.00", "55.00 (1)")
        assert (row["test miou_paper"], row["test miou_paper, ours"]) == ("42.00", "40.00 (1)")
        assert row["test miou, ours"] == "30.00 (1)"
        assert one(found, student="resnet10", method="fitnets")["test miou_paper"] == "37.20"

    def test_few_labels_and_few_images(self, tmp_path):
        camvid(tmp_path, "a", 0.2, data_fraction=0.1)
        camvid(tmp_path, "b", 0.3, labels=0.1)
        camvid(tmp_path, "c", 0.1, labels=0.1, method="no_teacher", teacher_metrics=None)
        found = tables(beside_of(tmp_path))["camvid, 10% of the data: mean IoU"]
        ours = found[found["test miou, ours"] != ""].set_index(["method", "decoder"])
        assert ours["test miou, ours"].to_dict() == {
            ("stagewise", "default"): "20.00 (1)",
            ("stagewise", "default, all images"): "30.00 (1)",
            ("no_teacher", "default"): "10.00 (1)",  # learns from labelled images alone
        }
        assert ours["val miou_paper"]["no_teacher", "default"] == "26.00"


def test_files_and_page(tmp_path):
    cifar(tmp_path / "study", "a")
    comparison = compare([tmp_path / "study"], tmp_path / "out")
    kept = pd.read_csv(tmp_path / "out" / "published.csv")
    assert one(kept, student="resnet10", method="stagewise", metric="accuracy")["ours"] == 0.8
    assert "| resnet10 | 77.88 |" in (tmp_path / "out" / "published.md").read_text()
    html = comparison.page.read_text()
    assert "<h2>Beside the published figures</h2>" in html
    assert "<td>80.00 (1)</td>" in html


def test_nothing_published(tmp_path):
    write_run(tmp_path / "study" / "a")
    comparison = compare([tmp_path / "study"], tmp_path / "out")
    assert not (tmp_path / "out" / "published.csv").exists()
    assert "<h2>Beside the published" not in comparison.page.read_text()


def test_source_is_named():
    source = files("stagewise_kd") / "comparison" / "published" / "SOURCE.md"
    assert "arXiv 1911.06786" in source.read_text()


@pytest.mark.parametrize("front_end", ["cls", "seg"])
def test_the_recipe_of_the_paper_is_what_is_compared_with_it(front_end):
    with composing(front_end) as compose:
        published, usual = (resolved(compose([f"recipe={name}"])) for name in ("paper", "default"))
    assert agree(chosen(published), AS_DESCRIBED)
    assert not agree(chosen(usual), AS_DESCRIBED)
