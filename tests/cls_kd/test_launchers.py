import csv
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import psutil
import pytest
from PIL import Image

from stagewise_kd.runs import launchers
from stagewise_kd.runs.study import plan_study, run_study
from stagewise_kd.system.errors import IncompleteError
from tests.cls_kd.test_cli import cls_kd

TINY = ["data=folder", "data.root=photos", "data.size=32", "batch_size=8", "student=resnet10"]
STUDY = ["run", "-m", *TINY, "method=no_teacher", "trainer.accelerator=cpu", "out=study"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    levels = {"train/bright": 200, "train/dark": 40, "test/bright": 190, "test/dark": 50}
    for name, level in levels.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for n in range(12):
            path = tmp_path / "photos" / name / f"{n}.png"
            Image.new("RGB", (32, 32), (level, level, n)).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def epochs_of(run: Path) -> Counter[str]:
    """How often each epoch of a run of one stage is in its metrics.csv."""
    with (run / "metrics.csv").open(newline="") as file:
        return Counter(row["epoch"] for row in csv.DictReader(file) if row["name"] == "train/loss")


def check_finished_once(study: Path, jobs: int, epochs: int) -> None:
    results = sorted(study.glob("*/*/result.json"))
    assert len(results) == jobs
    for result in results:
        assert epochs_of(result.parent) == {str(n): 1 for n in range(epochs)}


@pytest.mark.parametrize(
    ("launcher", "package", "more", "jobs"),
    [
        ("joblib", "joblib", ["hydra.launcher.n_jobs=2", "seed=0,1"], 2),
        pytest.param("submitit_local", "submitit", ["seed=0"], 1, marks=pytest.mark.slow),
    ],
)
def test_jobs_in_processes_of_their_own(launcher, package, more, jobs, here, capsys):
    pytest.importorskip(package)
    choice = [f"hydra/launcher={launcher}", *more]
    assert cls_kd(*STUDY, "epochs=1", *choice) == 0
    check_finished_once(here / "study", jobs, epochs=1)
    assert f"all {jobs} jobs are finished" in capsys.readouterr().err


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of two nodes with a core each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes.add_node(**node)
    yield nodes.address
    nodes.shutdown()


def worker_on(run: Path) -> psutil.Process | None:
    """The process that holds the lock of a run folder."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(run / ".lock") in [file.path for file in process.open_files()]:
                return process
    return None


@pytest.mark.slow
def test_ray_goes_on_with_the_job_of_a_worker_that_died(cluster, here):
    choice = ["hydra/launcher=ray", f"hydra.launcher.ray.init.address={cluster}"]
    command = [sys.executable, "-m", "cls_kd", *STUDY, "seed=0,1,2,3", "epochs=10", *choice]
    with (here / "said.txt").open("w") as said:
        study = subprocess.Popen(command, stdout=said, stderr=said)
        while study.poll() is None and not (found := [*here.glob("study/*/*/metrics.csv")]):
            time.sleep(0.05)
        run = found[0].parent
        worker = worker_on(run)
        worker.kill()
        worker.wait()
        assert not (run / "result.json").exists()
        assert 0 < len(epochs_of(run)) < 10
        assert study.wait(timeout=300) == 0, (here / "said.txt").read_text()
    check_finished_once(here / "study", jobs=4, epochs=10)


def test_a_launcher_that_gives_up_ends_with_the_list(here):
    study = plan_study("cls", [*STUDY[2:], "seed=0,1"])

    def launch(job: object) -> None:
        (study.folder / "photos-1.00/resnet10-no_teacher-s0").mkdir(parents=True)
        raise RuntimeError("a worker died")

    with pytest.raises(IncompleteError) as caught:
        run_study(study, lambda cfg: None, launch)
    said = str(caught.value)
    assert said.startswith("2 of 2 jobs in")
    assert "resnet10-no_teacher-s0: its process ended before it did" in said
    assert "resnet10-no_teacher-s1: did not start" in said
    assert "the launcher gave up: RuntimeError: a worker died" in said


@pytest.mark.parametrize(
    ("launcher", "extra"), [("joblib", "joblib"), ("ray", "ray"), ("submitit_slurm", "submitit")]
)
def test_a_launcher_that_is_not_installed(launcher, extra, monkeypatch, capsys):
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(launchers, "distribution", missing)
    assert cls_kd(*STUDY, "seed=0,1", f"hydra/launcher={launcher}") == 2
    assert f"pip install 'stagewise-kd[{extra}]'" in capsys.readouterr().err


def test_paths_reach_the_launcher_whole(tmp_path):
    own = launchers.launcher_settings([], tmp_path / "it's, a=study")
    study = plan_study("cls", [*own, "seed=0,1"])
    assert len(study.names) == 2
