import json
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra.utils import instantiate

from stagewise_kd.comparison.compare import compare
from stagewise_kd.comparison.page import Exhibit
from stagewise_kd.comparison.publish import publish
from stagewise_kd.runs.composing import composing, config_folder
from stagewise_kd.runs.config import check_values, resolved, untracked
from stagewise_kd.runs.experiment import run_experiment
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.run_folder import open_run
from stagewise_kd.tracking import wandb_run
from stagewise_kd.tracking.trackers import tensorboard_tracker, wandb_tracker
from tests.cls_kd.test_cli import TINY, cls_kd
from tests.engine import experiment, make_setup
from tests.fake_runs import write_run

CONFIG = {"epochs": 2, "method": {"name": "stagewise"}}
FACTS = {
    "dataset": "shapes",
    "data_fraction": 0.25,
    "method": "stagewise",
    "student": "resnet10",
    "decoder": None,
    "seed": 3,
}
SWEEPS = Path(config_folder("sweeps"))
RESULT = {
    "student_metrics": {"accuracy": 0.75},
    "teacher_metrics": {"accuracy": 0.9},
    "cost": {"student": {"macs": 7}, "teacher": {"macs": 9}, "device": "CPU"},
    "stages": [{"name": "stem", "best": {"value": 0.5}, "graft": {"accuracy": 0.8}}],
    "seconds": 12.5,
    "images_seen": 640,
}


class Log:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.epochs: list[Any] = []
        self.results: list[Any] = []

    def log(self, stage: str, epoch: int, step: int, values: dict[str, float]) -> None:
        self.epochs.append((stage, epoch, step, values))

    def finish(self, result: dict[str, Any], run_folder: Path) -> None:
        assert (run_folder / "student" / "model.safetensors").is_file()
        self.results.append(result)


def test_a_run_tells_its_tracker_what_it_writes(tmp_path):
    log = Log()
    setup = make_setup()
    setup = replace(setup, fitting=replace(setup.fitting, tracker=log))
    with open_run(tmp_path / "run") as run:
        result = run_experiment(experiment(setup, epochs=2), run)
    assert [epoch[:2] for epoch in log.epochs] == [
        (stage, epoch) for stage in ("a", "b", "head") for epoch in range(2)
    ]
    written = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]
    assert len(written) == sum(len(values) for *_, values in log.epochs)
    assert log.results == [result]


@pytest.mark.parametrize("choice", ["csv", "wandb", "tensorboard"])
def test_config_names_a_tracker(choice):
    with composing("cls") as compose:
        cfg = compose([f"tracker={choice}", "wandb.group=study", "out=x"])
    config = resolved(cfg)
    make = instantiate(config["tracker"])
    assert make.func.__name__ == {"csv": "no_tracker"}.get(choice, f"{choice}_tracker")
    if choice == "wandb":
        expected = {"mode": "offline", "project": "stagewise-kd", "group": "study"}
        assert make.keywords == expected
    assert config.keys() - untracked(config).keys() == {"tracker", "wandb", "reuse"}


@pytest.mark.parametrize("package", ["wandb", "tensorboard"])
def test_missing_package(package, monkeypatch, tmp_path):
    monkeypatch.setattr(wandb_run, "missing", lambda *names: [*names])
    make = {"wandb": wandb_tracker, "tensorboard": tensorboard_tracker}[package]
    with pytest.raises(UserError, match=rf"pip install 'stagewise-kd\[{package}\]'"):
        make(tmp_path, {}, {})


@pytest.mark.parametrize("name", ["decoders", "methods"])
def test_sweep_files_give_runs_of_their_own(name, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load((SWEEPS / f"{name}.yaml").read_text())
    keys = sweep["parameters"]
    folders = set()
    for number, chosen in enumerate(product(*(keys[key]["values"] for key in keys))):
        monkeypatch.setenv("WANDB_RUN_ID", f"id{number}")
        given = {key: {"value": value} for key, value in zip(keys, chosen, strict=True)}
        words = {"${program}": [sweep["program"]]} | {
            f"${{{name}}}": value
            for name, value in create_sweep_command_args({"args": given}).items()
        }
        program, run, *overrides = [
            word for part in sweep["command"] for word in words.get(part, [part])
        ]
        assert run == "run"
        with composing(program.split("-")[0]) as compose:
            cfg = compose(overrides)
        check_values(resolved(cfg))
        assert f"-s{cfg.seed}-id{number}" in cfg.out
        folders.add(cfg.out)
    assert len(folders) == number + 1 > 1


class TestTensorBoard:
    def test_scalars_are_there(self, tmp_path):
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        tracker = tensorboard_tracker(tmp_path, CONFIG, FACTS)
        assert not list(tmp_path.iterdir())
        for epoch in range(2):
            tracker.log("stem", epoch, 10 * epoch, {"val/loss": 0.5 - epoch / 4})
        tracker.finish(RESULT, tmp_path)
        events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        assert [(e.step, e.value) for e in events.Scalars("stem/val/loss")] == [(0, 0.5), (1, 0.25)]
        assert events.Scalars("student/accuracy")[0].value == 0.75


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty home folder, no account, and no settings of W&B."""
    for name in [name for name in os.environ if name.startswith(("WANDB", "XDG"))]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class Offline:
    """What an offline run has written, read back."""

    def __init__(self, file: Path) -> None:
        from wandb.proto.wandb_internal_pb2 import Record

        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.metrics: dict[str, str] = {}
        self.artifacts: dict[str, str] = {}
        self.run: Any = None
        for data in _records(file.read_bytes()):
            self._take(Record.FromString(data))

    def _take(self, record: Any) -> None:
        if record.HasField("run"):
            self.run = record.run
            self.config |= _values(record.run.config.update)
        elif record.HasField("summary"):
            self.summary |= _values(record.summary.update)
        elif record.HasField("history"):
            self.history.append(_values(record.history.item))
        elif record.HasField("metric"):
            self.metrics[record.metric.glob_name or record.metric.name] = record.metric.step_metric
        elif record.HasField("artifact"):
            self.artifacts[record.artifact.name] = record.artifact.type


def _values(items: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        *outer, last = item.nested_key or [item.key]
        node = found
        for key in outer:
            node = node.setdefault(key, {})
        node[last] = json.loads(item.value_json)
    return found


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a file in the format of LevelDB's log, after a header of seven bytes."""
    assert data[:4] == b":W&B"
    block, place, parts = 32768, 7, b""
    while place + 7 <= len(data):
        if block - place % block < 7:
            place += block - place % block
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def offline(folder: Path) -> list[Offline]:
    return [Offline(file) for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))]


class TestWandb:
    @pytest.fixture(autouse=True)
    def installed(self, home) -> None:
        pytest.importorskip("wandb")

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        path = tmp_path / "study" / "run"
        (path / "student").mkdir(parents=True)
        (path / "student" / "network.json").write_text("{}")
        return path

    def test_run_is_read_back(self, folder, home):
        tracker = wandb_tracker(folder, CONFIG, FACTS, tags=["test"])
        for stage in ("stem", "head"):
            for epoch in range(2):
                tracker.log(stage, epoch, 10 * epoch, {"val/loss": 1.5 - epoch})
        tracker.finish(RESULT, folder)
        (run,) = offline(folder)
        assert (run.run.project, run.run.run_group, run.run.display_name, list(run.run.tags)) == (
            "stagewise-kd",
            "study",
            "shapes-0.25/run",
            ["shapes", "stagewise", "resnet10", "seed3", "fraction0.25", "test"],
        )
        assert {key: run.config[key] for key in FACTS} == FACTS
        assert run.config["epochs"] == 2
        assert run.config["settings"] == CONFIG
        assert run.metrics["stem/*"] == "stem/epoch"
        assert [(row.get("stem/epoch"), row.get("stem/val/loss")) for row in run.history[:2]] == [
            (0, 1.5),
            (1, 0.5),
        ]
        assert [row["_step"] for row in run.history] == [0, 1, 2, 3]
        assert run.summary["student/accuracy"] == 0.75
        assert run.summary["cost/teacher/macs"] == 9
        assert run.summary["stem/graft/accuracy"] == 0.8
        assert list(run.artifacts.values()) == ["model"]
        assert not list(home.iterdir())

    def test_nothing_before_the_first_epoch(self, folder):
        wandb_tracker(folder, CONFIG, FACTS)
        assert not (folder / "wandb").exists()

    def test_resumed_run_goes_on_with_its_id_and_steps(self, folder):
        for epoch in range(2):
            rows = [f"stem,{n},0,{name},1" for n in range(epoch + 1) for name in ("a", "b")]
            lines = ["stage,epoch,step,name,value", *rows]
            (folder / "metrics.csv").write_text("\n".join(lines))
            tracker = wandb_tracker(folder, CONFIG, FACTS)
            tracker.log("stem", epoch, 0, {"val/loss": 1.0})
            wandb_run.stop(tracker.run)
        runs = offline(folder)
        assert len({run.run.run_id for run in runs}) == 1
        assert sorted(row["_step"] for run in runs for row in run.history) == [0, 1]

    def test_unknown_mode(self, folder):
        with pytest.raises(UserError, match=r"wandb.mode=maybe: give offline or online"):
            wandb_tracker(folder, CONFIG, FACTS, mode="maybe")

    def test_online_without_an_account(self, folder, home, monkeypatch):
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        with pytest.raises(UserError, match=r"wandb.mode=online: no API key .*wandb login, or set"):
            wandb_tracker(folder, CONFIG, FACTS, mode="online")

    def test_no_account_is_found_before_a_teacher_is_trained(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        online = ["tracker=wandb", "wandb.mode=online"]
        assert cls_kd("run", *TINY, "data.source.train=40", "data.source.test=8", *online) == 2
        assert "error: wandb.mode=online: no API key is set" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["home"]

    def test_no_account_is_found_before_runs_are_compared(self, tmp_path, capsys):
        write_run(tmp_path / "run")
        online = ["--wandb", "--wandb-mode", "online", "--out", str(tmp_path / "out")]
        assert cls_kd("compare", str(tmp_path / "run"), *online) == 2
        assert "no API key is set; run wandb login" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_a_whole_run(self, tmp_path, home):
        setup = make_setup()
        tracker = wandb_tracker(tmp_path / "run", CONFIG, FACTS, group="mine")
        setup = replace(setup, fitting=replace(setup.fitting, tracker=tracker))
        with open_run(tmp_path / "run") as folder:
            result = run_experiment(experiment(setup, epochs=1), folder)
        (run,) = offline(tmp_path / "run")
        assert run.summary["student/accuracy"] == result["student_metrics"]["accuracy"]
        assert run.run.run_group == "mine"
        assert not list(home.iterdir())

    def test_comparison_is_read_back(self, tmp_path, home):
        for seed, score in enumerate((0.80, 0.84)):
            write_run(tmp_path / "runs" / f"{seed}", score, seed, dataset="cifar10")
        write_run(tmp_path / "runs" / "n", 0.7, method="no_teacher", dataset="cifar10")
        image = np.zeros((8, 10, 3), np.uint8)
        masks = {name: np.ones((8, 10), np.uint8) for name in ("truth", "teacher")}
        exhibit = Exhibit("x.png", [("image", image)], masks, {0: "sky", 1: "pole"}, image)
        comparison = compare([tmp_path / "runs"], tmp_path / "out", [exhibit])
        publish(comparison, "project", "group")
        (run,) = offline(tmp_path / "out")
        assert (run.run.project, run.run.run_group, run.run.job_type) == (
            "project",
            "group",
            "comparison",
        )
        assert len(run.config["runs"]) == 3
        (logged,) = run.history
        assert {f"figures/{name}" for name in ("curves", "graft", "pareto")} <= set(logged)
        files = next((tmp_path / "out" / "wandb").glob("offline-run-*/files"))
        table = json.loads((files / logged["comparison"]["path"]).read_text())
        column = table["columns"].index("accuracy")
        assert [row[column] for row in table["data"]] == pytest.approx([0.9, 0.82, 0.7])
        table = json.loads((files / logged["differences"]["path"]).read_text())
        (row,) = table["data"]
        assert row[table["columns"].index("difference")] == pytest.approx(-0.1)
        table = json.loads((files / logged["published"]["path"]).read_text())
        assert 0.8475 in [row[table["columns"].index("published")] for row in table["data"]]
        assert (files / logged["figures/pareto"]["path"]).stat().st_size > 10_000
        gallery = logged["gallery/00"]
        assert gallery["captions"] == ["x.png: truth", "x.png: teacher"]
        mask = gallery["all_masks"][0]["classes"]
        assert (files / mask["path"]).is_file()
        assert not list(home.iterdir())
