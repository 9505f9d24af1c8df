import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from stagewise_kd.cli.hydra_app import hydra_run
from stagewise_kd.runs.composing import config_folder
from stagewise_kd.runs.study import plan_study
from stagewise_kd.system.errors import IncompleteError, UserError
from tests.cls_kd.test_cli import TINY, cls_kd

CONFIGS = Path(config_folder("cls")).parent


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photos(here) -> Path:
    levels = {"train/bright": 200, "train/dark": 40, "test/bright": 190, "test/dark": 50}
    for name, level in levels.items():
        (here / "photos" / name).mkdir(parents=True)
        for n in range(12):
            Image.new("RGB", (32, 32), (level, level, n)).save(here / "photos" / name / f"{n}.png")
    return here / "photos"


class TestRunning:
    def test_a_failed_job_stops_no_other_and_runs_again(self, photos, here, capsys):
        study = ["run", "-m", "data=folder", "data.root=elsewhere,photos", *TINY]
        study += ["method=no_teacher", "out=study"]
        assert cls_kd(*study) == 1
        said = capsys.readouterr().err
        assert "1 of 2 jobs in" in said
        assert said.count("elsewhere: no such folder") == 2  # when it fails, and at the end
        names = [f"{d}-1.00/resnet10-no_teacher-s0-root{d}" for d in ("elsewhere", "photos")]
        assert "no such folder" in (here / f"study/failures/{names[0]}.txt").read_text()
        result = here / f"study/{names[1]}/result.json"
        before = result.stat().st_mtime_ns
        shutil.copytree(photos, here / "elsewhere")
        assert cls_kd(*study) == 0
        assert (here / f"study/{names[0]}/result.json").is_file()
        assert not [*here.glob("study/failures/**/*.txt")]
        assert result.stat().st_mtime_ns == before

    def test_bad_settings_stop_the_study_before_its_first_job(self, photos, here, capsys):
        assert cls_kd("run", "-m", "data=folder", "data.root=photos", "lr=0.1,-1", "out=study") == 2
        assert "lr=-1: give a number above 0" in capsys.readouterr().err
        assert not (here / "study").exists()

    def test_methods_of_one_stage_get_the_epochs_of_all(self, photos, here):
        more = ["method=no_teacher,stagewise", "budget=matched", "out=study", "graft=false"]
        more += ["teacher.epochs=1", "teacher.store=store"]
        assert cls_kd("run", "-m", "data=folder", "data.root=photos", *TINY, *more) == 0
        found = {}
        for file in here.glob("study/*/*/result.json"):
            result = json.loads(file.read_text())
            epochs = [stage["epochs"] for stage in result["stages"]]
            found[result["method"]] = epochs, result["images_seen"]
        assert found["no_teacher"][0] == [6]
        assert found["stagewise"][0] == [5, 1]
        assert found["no_teacher"][1] == found["stagewise"][1]
        assert len([*here.glob("store/*/result.json")]) == 1


def test_a_study_is_not_run_as_one_job(here, capsys):
    assert cls_kd("run", "experiment=cifar10_small", "seed=1", "out=run") == 2
    assert "sweeps method, student; run it with -m" in capsys.readouterr().err
    assert not (here / "run").exists()


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_the_config_of_a_study_is_shown(flags, capsys):
    assert cls_kd("run", *flags, "experiment=cifar10_small", "--cfg", "job") == 0
    assert "budget: matched" in capsys.readouterr().out


class TestPlanning:
    def test_what_is_given_on_the_command_line_replaces_the_sweep_of_the_file(self):
        study = plan_study("cls", ["experiment=cifar10_small", "seed=5", "out=x"])
        assert len(study.names) == 9
        assert all(name.endswith("-s5") for name in study.names.values())
        assert study.folder == Path("x").absolute()

    def test_jobs_of_one_folder_are_refused(self):
        with pytest.raises(UserError, match=r"same run folder: shapes-1.00/.*-checkpointa_b"):
            plan_study("cls", ["teacher.checkpoint=a_b,a/b"])

    def test_small_fractions_keep_their_digits(self):
        study = plan_study("cls", ["data.fraction=0.001,0.5"])
        assert [name.split("/")[0] for name in study.names.values()] == [
            "shapes-0.001",
            "shapes-0.50",
        ]


def test_a_size_is_that_of_the_students_that_are_shrunk(here):
    sizes = {}

    def run(cfg):
        sizes[cfg.student.name] = cfg.target.macs

    study = ["-m", "student=shrunk,resnet10", "target.macs=0.5", "out=both"]
    with pytest.raises(IncompleteError):  # for it leaves no result
        hydra_run("cls", run, study)
    assert sizes == {"shrunk": 0.5, "resnet10": None}
    with pytest.raises(UserError, match=r"target.macs=0.5: is for student=shrunk"):
        plan_study("cls", ["student=resnet14,resnet10", "target.macs=0.5"])


@pytest.mark.parametrize(
    "file", sorted(CONFIGS.glob("*/experiment/*.yaml")), ids=lambda file: f"{file.parts[-3:]}"
)
def test_every_experiment_says_its_command_and_has_its_own_folder(file):
    front_end, name = file.parts[-3], file.stem
    about = file.read_text().split("defaults:")[0]
    assert f"{front_end}-kd run -m experiment={name}" in about
    assert "Cost:" in about
    study = plan_study(front_end, [f"experiment={name}", "seed=0"])
    assert study.folder == Path("runs", name).absolute()
    assert len(study.names) > 1


@pytest.mark.slow
def test_a_study_killed_twice_ends_like_one_that_was_not(photos, here):
    settings = ["-m", "data=folder", "data.root=photos", *TINY[1:], "epochs=2", "graft=false"]
    settings += ["method=no_teacher,stagewise", "teacher.epochs=1", "teacher.store=store"]
    argv = [sys.executable, "-m", "cls_kd", "run", *settings]
    for traces in ("no_teacher-s0/metrics.csv", "stagewise-s0/stages/00-features/last.ckpt"):
        study = subprocess.Popen([*argv, "out=killed"], stderr=subprocess.DEVNULL)
        while not (here / "killed/photos-1.00" / f"resnet10-{traces}").is_file():
            assert study.poll() is None
            time.sleep(0.01)
        study.kill()
        study.wait()
    assert not [*here.glob("killed/*/resnet10-stagewise-s0/result.json")]
    for out in ("out=killed",), ("out=straight", "reuse=false"):
        subprocess.run([*argv, *out], check=True, timeout=300, capture_output=True)
    files = here.glob("straight/*/*/student/[!R]*")  # not README.md, which tells seconds
    names = [file.relative_to(here / "straight") for file in files]
    assert len(names) == 2 * 2
    for name in names:
        assert (here / "killed" / name).read_bytes() == (here / "straight" / name).read_bytes()
