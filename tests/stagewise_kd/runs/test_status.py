import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cls_kd.cli import main
from stagewise_kd.runs.status import Job, read_jobs, show_status, time_left
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.run_folder import open_run
from tests.fake_runs import write_run

PLAN = [
    {"name": "stem", "epochs": 5, "monitor": "loss", "mode": "min"},
    {"name": "head", "epochs": 5, "monitor": "accuracy", "mode": "max"},
]


def unfinished(path: Path, done: int, figures: dict[str, list[float]]) -> Path:
    """A run whose first stages are done, 30 s each, and its validation figures by stage."""
    write_run(path)
    (path / "result.json").unlink()
    (path / "manifest.json").write_text(json.dumps({"plan": PLAN, "stages": {}}))
    rows = [
        f"{stage['name']},{epoch},0,val/{stage['monitor']},{value}"
        for stage in PLAN
        for epoch, value in enumerate(figures.get(stage["name"], []))
    ]
    (path / "metrics.csv").write_text("\n".join(["stage,epoch,step,name,value", *rows, "head,"]))
    for index, stage in enumerate(PLAN[:done]):
        folder = path / "stages" / f"{index:02d}-{stage['name']}"
        folder.mkdir(parents=True)
        (folder / "stage.json").write_text('{"seconds": 30.0}')
        os.utime(folder / "stage.json", (1000, 1000))
    os.utime(path / "manifest.json", (1000, 1000))
    os.utime(path / "metrics.csv", (1012, 1012))
    return path


@pytest.fixture
def study(tmp_path) -> Path:
    folder = tmp_path / "study"
    write_run(folder / "data" / "ended", score=0.75)
    unfinished(folder / "data" / "broken", 1, {"stem": [0.5] * 5, "head": [0.25, 0.5, 0.375]})
    unfinished(folder / "data" / "early", 0, {})
    (folder / "failures" / "data").mkdir(parents=True)
    (folder / "failures" / "data" / "wrong[1,2].txt").write_text("no such folder\n\n")
    names = [f"data/{name}" for name in ("ended", "broken", "early", "wrong[1,2]", "later")]
    jobs = {"jobs": names, "methods": dict.fromkeys(names, "stagewise")}
    (folder / "study.json").write_text(json.dumps(jobs))
    return folder


@pytest.fixture
def at_work(study) -> Iterator[Path]:
    """The run "broken", in which a second process is at work."""
    path = study / "data" / "broken"
    hold = "import filelock, sys; a = filelock.FileLock(sys.argv[1]).acquire(); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-uc", hold, str(path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        yield path
        process.communicate(b"\n")


def test_states_and_figures(study):
    jobs = {job.name.removeprefix("data/"): job for job in read_jobs(study)}
    assert {name: job.state for name, job in jobs.items()} == {
        "ended": "finished",
        "broken": "interrupted",
        "early": "interrupted",
        "wrong[1,2]": "failed",
        "later": "waiting",
    }
    assert (jobs["ended"].stage, jobs["ended"].best) == ("3/3", "test accuracy 0.7500")
    assert jobs["ended"].seconds == 100
    assert (jobs["broken"].stage, jobs["broken"].best) == (
        "2/2 head, epoch 3/5",
        "val accuracy 0.5000",
    )
    assert jobs["broken"].seconds == 30 + 12
    assert (jobs["early"].stage, jobs["early"].best) == ("1/2 stem, epoch 0/5", "")
    assert (jobs["later"].stage, jobs["later"].seconds) == ("", None)


def test_a_held_lock_is_a_running_job(at_work, study):
    (job,) = [job for job in read_jobs(study) if job.name == "data/broken"]
    assert job.state == "running"
    assert job.seconds > 30
    with pytest.raises(UserError, match="another process"), open_run(at_work):
        pass


def test_a_job_without_a_plan_yet_is_preparing(at_work, study):
    (at_work / "manifest.json").unlink()
    (job,) = [job for job in read_jobs(study) if job.name == "data/broken"]
    assert (job.state, job.stage, job.seconds) == ("running", "preparing", None)


def test_looking_leaves_nothing_behind(study):
    before = sorted(study.rglob("*"))
    read_jobs(study)
    assert sorted(study.rglob("*")) == before


def test_runs_of_no_study_without_their_teachers(tmp_path):
    store = {"name": "resnet34", "checkpoint": None, "store": str(tmp_path / "teachers")}
    write_run(tmp_path / "a", config={"teacher": store})
    write_run(tmp_path / "teachers" / "resnet34-0123", method="no_teacher")
    assert [job.name for job in read_jobs(tmp_path)] == ["a"]


def test_table_and_summary(study, at_work, capsys):
    show_status(study)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["data/wrong[1,2]", "failed"] in lines
    assert ["data/ended", "finished", "3/3", "test", "accuracy", "0.7500", "0:01:40"] in lines
    assert " ".join(lines[-1]).startswith(
        "1 of 5 finished, 1 running, 1 interrupted, 1 failed; about"
    )


def test_watching_ends_with_the_study(tmp_path, capsys):
    write_run(tmp_path / "a")
    show_status(tmp_path, watch=True)
    assert "1 of 1 finished" in capsys.readouterr().out


def test_time_left_goes_by_method_and_by_how_many_run():
    ended = [
        Job("a", "stagewise", "finished", seconds=100),
        Job("b", "hinton", "finished", "", "", 40),
    ]
    ahead = [
        Job("c", "stagewise", "running", seconds=30),
        Job("d", "hinton", "running", seconds=50),  # longer than those before: any moment
        Job("e", "hinton", "waiting"),
        Job("f", "fitnets", "waiting"),
    ]
    assert time_left(ended + ahead) == (70 + 0 + 40 + 70) / 2
    assert time_left([*ended, Job("e", "hinton", "waiting")]) == 40
    assert time_left(ahead) is None
    assert time_left([*ended, Job("g", "hinton", "failed")]) is None


@pytest.mark.parametrize(
    ("name", "fault"), [("empty", "holds no runs"), ("gone", "no such folder")]
)
def test_a_folder_without_runs_is_bad_input(name, fault, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as caught:
        main(["status", str(tmp_path / name)])
    assert caught.value.code == 2
    assert f"{name}: {fault}" in capsys.readouterr().err
