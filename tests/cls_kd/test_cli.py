import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import resnet18

from cls_kd.cli import main
from cls_kd.predict import caption_of
from stagewise_kd.networks.resnet import resnet

TINY = ["epochs=1", "batch_size=8", "data.size=32", "student=resnet10", "teacher=resnet18"]


def cls_kd(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    return caught.value.code


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """Every command runs in a folder of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """An image folder of two classes, bright and dark, in several formats and sizes."""
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 24), ("test", 4)):
        for name, level in (("bright", 200), ("dark", 40)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for n in range(count):
                suffix = (".jpg", ".png")[n % 2]
                Image.new("RGB", (40 + n, 36), (level, level, n)).save(folder / f"{n}{suffix}")
    return root


@pytest.fixture(scope="session")
def teacher(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    torch.save(resnet("resnet18", 2).model.state_dict(), path)
    return path


@pytest.fixture
def command(pictures, teacher) -> list[str]:
    data = ["data=folder", f"data.root={pictures}", f"teacher.checkpoint={teacher}"]
    return ["run", *data, *TINY, "out=run"]


@pytest.fixture(scope="session")
def finished(pictures, teacher, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    data = ["data=folder", f"data.root={pictures}", f"teacher.checkpoint={teacher}"]
    assert cls_kd("run", *data, *TINY, f"out={out}") == 0
    return out


def test_run_writes_the_contract(finished):
    result = json.loads((finished / "result.json").read_text())
    keys = {"task", "dataset", "data_fraction", "method", "student", "teacher", "decoder", "seed"}
    assert keys | {"protocol", "student_metrics", "teacher_metrics", "cost"} <= set(result)
    assert set(result["student_metrics"]) == {"accuracy", "balanced_accuracy", "agreement"}
    assert (result["metric"], result["mode"], result["images"]) == ("accuracy", "max", 43)
    assert result["dataset"] == "pictures0"  # the folder's name
    assert len(json.loads((finished / "manifest.json").read_text())["dataset_hash"]) == 64
    assert len((finished / "splits" / "test.txt").read_text().split()) == 8
    stages = [stage["name"] for stage in result["stages"]]
    assert stages == ["features", "head"]


def test_finished_run_is_not_run_again(finished, pictures, teacher, capsys):
    data = ["data=folder", f"data.root={pictures}", f"teacher.checkpoint={teacher}"]
    before = (finished / "result.json").stat().st_mtime_ns
    assert cls_kd("run", *data, *TINY, f"out={finished}") == 0
    assert "is finished already" in " ".join(capsys.readouterr().err.split())
    assert (finished / "result.json").stat().st_mtime_ns == before


def test_evaluate_gives_the_runs_own_figures(finished, capsys):
    assert cls_kd("evaluate", str(finished)) == 0
    figures = json.loads(capsys.readouterr().out)
    expected = json.loads((finished / "result.json").read_text())["student_metrics"]
    assert figures | {"agreement": expected["agreement"]} == {"images": 8, **expected}


def test_evaluate_on_class_folders_alone(finished, pictures, here, capsys):
    assert cls_kd("evaluate", str(finished), f"data.root={pictures / 'test'}") == 0
    figures = json.loads(capsys.readouterr().out)
    expected = json.loads((finished / "result.json").read_text())["student_metrics"]
    assert figures | {"agreement": expected["agreement"]} == {"images": 8, **expected}
    shutil.copytree(pictures / "test" / "dark", here / "some" / "test" / "dark")
    assert cls_kd("evaluate", str(finished), "data.root=some") == 0
    said = capsys.readouterr()
    figures = json.loads(said.out)
    assert (figures["images"], figures["accuracy"]) == (4, figures["balanced_accuracy"])
    assert "test has no label of bright (1 of 2 classes; labels of the others: 4)" in said.err


def test_images_without_labels(pictures, teacher, here, capsys):
    data = ["data=images", f"data.root={pictures / 'train'}", f"teacher.checkpoint={teacher}"]
    tested = [*data, f"data.test={pictures}", *TINY, "steps=1", "schedule=sequential"]
    assert cls_kd("run", *tested, "out=run") == 0
    result = json.loads((here / "run" / "result.json").read_text())
    assert (result["metric"], result["columns"]) == ("accuracy", ["accuracy", "agreement"])
    assert set(result["student_metrics"]) == {"accuracy", "balanced_accuracy", "agreement"}
    assert len((here / "run" / "splits" / "test.txt").read_text().split()) == 8
    assert cls_kd("evaluate", "run") == 0
    figures = json.loads(capsys.readouterr().out)
    expected = result["student_metrics"]
    assert figures | {"agreement": expected["agreement"]} == {"images": 8, **expected}
    assert cls_kd("evaluate", "run", "data.test=null") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures.keys() == {"images", "agreement"}
    assert figures["images"] == 48  # all of the folder, as the run has not been scored on it
    assert cls_kd("compare", "run", "--out", "page") == 0
    html = (here / "page" / "index.html").read_text()
    assert html.count("is dark") == html.count("is bright") == 2 * 4  # below a picture, and as alt
    assert html.count("resnet18 teacher: ") == 2 * 8
    assert "of 8 images, which come first" in html
    shutil.rmtree(here / "run" / "student")
    capsys.readouterr()
    assert cls_kd("compare", "run", "--out", "page") == 0
    assert "no pictures: run: holds no finished student" in capsys.readouterr().err
    assert cls_kd("run", *data, "data.images=2", *TINY, "out=two") == 2
    assert "stage 'features': of one image BatchNorm" in capsys.readouterr().err
    assert not (here / "two").exists()


def test_predict_writes_probabilities_and_a_sheet(finished, pictures, here):
    file = pictures / "test" / "dark" / "1.png"
    assert cls_kd("predict", str(finished), str(pictures / "test"), str(file), "--out", "seen") == 0
    rows = list(csv.DictReader((here / "seen" / "predictions.csv").read_text().splitlines()))
    assert len(rows) == 9
    for row in rows:
        assert float(row["probability_1"]) + float(row["probability_2"]) == pytest.approx(
            1, abs=2e-4
        )
        assert {row["class_1"], row["class_2"]} == {"bright", "dark"}
    with Image.open(here / "seen" / "contact_sheet.png") as sheet:
        assert sheet.width > 300


def test_predict_tells_of_damaged_files_at_the_end(finished, pictures, here, capsys):
    shutil.copytree(pictures / "test", here / "photos")
    (here / "photos" / "dark" / "1.png").write_bytes(b"no image")
    assert cls_kd("predict", str(finished), "photos", "nowhere.jpg", "--out", "seen") == 1
    said = capsys.readouterr().err
    assert "error: 2 of 9 images cannot be read, the others are done; replace or delete: " in said
    for name in ("photos/dark/1.png (", "nowhere.jpg ("):
        assert f"- {name}" in said
    assert len((here / "seen" / "predictions.csv").read_text().splitlines()) == 1 + 7


def test_the_sheet_names_files_and_truth_where_a_folder_tells_it():
    names = ["bright", "dark"]
    row = ["photos/dark/a_rather_long_name_of_a_file.jpg", "bright", "0.9000", "dark", "0.1000"]
    caption = "a_rather_lo…a_file.jpg\nis dark\nbright 90%\ndark 10%"
    assert caption_of(row, names) == (caption, True)
    assert caption_of(["photos/dark/$x$.jpg", *row[3:]], names) == (
        "$x$.jpg\nis dark\ndark 10%",
        False,
    )
    assert caption_of(["photos/x.jpg", *row[1:3]], names) == ("x.jpg\nbright 90%", False)


def test_compare_prints_the_table_and_writes_the_page(finished, here, capsys):
    assert cls_kd("compare", str(finished), str(finished)) == 0
    said = capsys.readouterr().err
    assert said.count("stagewise") == 1  # the same run given twice is one
    assert said.endswith("report: comparison/index.html\n")
    assert "<img" in (here / "comparison" / "index.html").read_text()


def test_student_folder_rebuilds_the_student(finished):
    weights = load_file(finished / "student" / "model.safetensors")
    network = json.loads((finished / "student" / "network.json").read_text())
    resnet(**network["network"]).model.load_state_dict(weights)
    assert (network["task"], network["classes"]) == ("classification", ["bright", "dark"])


@pytest.mark.parametrize("method", ["no_teacher", "simultaneous", "hinton"])
def test_baselines_run(command, method):
    assert cls_kd(*command, f"method={method}") == 0


def test_a_run_as_the_start_of_another(command, finished, here, capsys):
    start = [f"student.init={finished}", "method=no_teacher", "method.trains=head"]
    assert cls_kd(*command, *start) == 0
    assert f" tensors from {finished}\n" in capsys.readouterr().err
    first, second = (
        load_file(run / "student" / "model.safetensors") for run in (finished, here / "run")
    )
    assert {name for name in first if not first[name].equal(second[name])} == {
        *("fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias")
    }
    weights = finished / "student" / "model.safetensors"
    assert cls_kd(*command, f"student.init={weights}", *start[1:]) == 2
    assert "holds a run of another configuration" in capsys.readouterr().err


@pytest.mark.slow
def test_wider_teacher_needs_adapters(command, here):
    options = ["teacher.checkpoint=null", "teacher=resnet50", "teacher.epochs=1"]
    assert cls_kd(*command, *options) == 0
    adapters = load_file(here / "run" / "stages" / "00-features" / "best.safetensors")
    assert adapters["adapters.layer1.weight"].shape == (256, 64, 1, 1)
    student = load_file(here / "run" / "student" / "model.safetensors")
    assert not [key for key in student if "adapter" in key]


def test_label_free_student_then_finetuned(command, here):
    options = ["student=resnet18", "method.head=teacher", "method.finetune_epochs=1"]
    assert cls_kd(*command, *options) == 0
    stages = json.loads((here / "run" / "result.json").read_text())["stages"]
    assert [stage["name"] for stage in stages] == ["features", "finetune"]


def test_one_stage_a_feature_as_published(command, here):
    assert cls_kd(*command, "recipe=paper", "epochs=1") == 0
    stages = json.loads((here / "run" / "result.json").read_text())["stages"]
    names = [stage["name"] for stage in stages]
    assert names == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert all("accuracy" in stage["graft"] for stage in stages[:-1])


def test_pairs_of_features_fed_by_the_teacher(command, here):
    options = ["match=[[layer2,layer2],[layer4,layer4]]", "method.fed=teacher"]
    assert cls_kd(*command, *options, "schedule=sequential") == 0
    stages = json.loads((here / "run" / "manifest.json").read_text())["plan"]
    assert [stage["trains"] for stage in stages] == [
        ["stem", "layer1", "layer2"],
        ["layer3", "layer4"],
        ["head"],
    ]
    assert [stage["fed"] for stage in stages] == ["teacher", "teacher", "student"]


def test_few_labels(command, pictures, here):
    options = ["data.label_fraction=0.25", f"data.unlabelled={pictures / 'test'}"]
    assert cls_kd(*command, *options) == 0
    listed = {p.stem: p.read_text().split() for p in (here / "run" / "splits").iterdir()}
    assert len(listed["train"]) == 11  # of 43
    assert len(listed["images"]) == 43 + 8
    assert set(listed["train"]) < set(listed["images"])
    assert json.loads((here / "run" / "result.json").read_text())["images_seen"] == 6 * 48


def test_few_labels_and_a_head_that_learns_nothing_else(command, pictures, here):
    options = ["data.label_fraction=0.25", f"data.unlabelled={pictures / 'test'}"]
    assert cls_kd(*command, *options, "method.head_kd=none") == 0
    assert json.loads((here / "run" / "result.json").read_text())["images_seen"] == 5 * 48 + 8


def test_paper_recipe_and_rest_as_test(command, here):
    options = ["recipe=paper", "epochs=1", "data.fraction=0.5", "data.rest_as_test=true"]
    assert cls_kd(*command, *options, "eval.protocol=paper", "method=no_teacher") == 0
    result = json.loads((here / "run" / "result.json").read_text())
    assert result["protocol"] == "paper"
    lines = {p.stem: p.read_text().split() for p in (here / "run" / "splits").iterdir()}
    assert len(lines["train"]) == len(lines["test"]) == 24
    assert not set(lines["train"]) & set(lines["test"])
    assert lines["val"] == lines["test"]


def test_teacher_is_trained_once_for_all_runs(pictures, here, capsys):
    data = ["run", "data=folder", f"data.root={pictures}", *TINY, "teacher.epochs=1"]
    assert cls_kd(*data, "method=hinton", "out=one") == 0
    (store,) = (here / "runs" / "teachers").iterdir()
    trained = (store / "result.json").stat().st_mtime_ns
    assert cls_kd(*data, "data.fraction=0.5", "seed=1", "out=two") == 0
    assert [*(here / "runs" / "teachers").iterdir()] == [store]
    assert (store / "result.json").stat().st_mtime_ns == trained
    assert cls_kd("evaluate", str(store)) == 0
    manifests = [json.loads((here / n / "manifest.json").read_text()) for n in ("one", "two")]
    assert manifests[0]["teacher_hash"] == manifests[1]["teacher_hash"]


@pytest.mark.slow
def test_two_processes(command, here):
    """They are started with the run's own overrides, and are none of a surrounding SLURM job's."""
    ddp = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]
    argv = [sys.executable, "-m", "cls_kd", *command, *ddp, "method=no_teacher"]
    slurm = {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "JOB_ID": "1", "JOB_NAME": "job"}
    env = os.environ | {f"SLURM_{key}": value for key, value in slurm.items()}
    subprocess.run(argv, check=True, timeout=300, env=env)
    result = json.loads((here / "run" / "result.json").read_text())
    assert result["images_seen"] == 2 * 16  # 43 train images, 21 a process, whole batches of 8


NASTY = "2024, (a)#[b]: @c=~d 'e' \\"


def test_paths_are_text_as_typed_in_every_command(
    command, here, pictures, teacher, capsys, monkeypatch
):
    (here / "epoch=9-step=10.ckpt").write_bytes(teacher.read_bytes())
    (here / NASTY).symlink_to(pictures)
    paths = [f"data.root={NASTY}", "teacher.checkpoint=epoch=9-step=10.ckpt", "out=20240501_1200"]
    assert cls_kd(*command, *paths, "method=no_teacher") == 0
    assert json.loads((here / "20240501_1200" / "result.json").read_text())["teacher_metrics"]
    capsys.readouterr()
    assert cls_kd("evaluate", "20240501_1200") == 0
    expected = capsys.readouterr()
    monkeypatch.setenv("HOME", str(here))
    for root in (NASTY, f"~/{NASTY}"):
        assert cls_kd("evaluate", "~/20240501_1200", f"data.root={root}") == 0
        assert capsys.readouterr() == expected


def test_home_is_where_out_lies(command, here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    assert cls_kd(*command, "method=no_teacher", "out=~/run") == 0
    assert (here / "home" / "run" / "result.json").is_file()
    assert not (here / "~").exists()


def test_gradients_are_clipped_in_mixed_precision(command):
    clipped = ["trainer.precision=bf16-mixed", "trainer.gradient_clip_val=1"]
    assert cls_kd(*command, "method=no_teacher", *clipped) == 0


def test_multirun_names_its_jobs(command, here):
    assert (
        cls_kd(
            *command[:4],
            "-m",
            "epochs=1",
            "teacher=resnet18",
            "data.size=32",
            "method=no_teacher",
            "seed=0,1",
            "lr=0.01,0.001",
            "out=study",
        )
        == 0
    )
    names = sorted(p.name for p in (here / "study" / "pictures0-1.00").iterdir())
    assert names == [
        f"resnet10-no_teacher-s{seed}-lr{lr}" for seed in (0, 1) for lr in ("0.001", "0.01")
    ]


def test_any_option_of_lightnings_trainer(command, here):
    assert cls_kd(*command, "method=no_teacher", "trainer.limit_train_batches=2") == 0
    assert "limit_train_batches: 2" in (here / "run" / "config.yaml").read_text()


@pytest.mark.slow
def test_multirun_over_files_names_its_jobs(command, here, teacher):
    copy = here / "copy.pt"
    copy.write_bytes(teacher.read_bytes())
    swept = f"teacher.checkpoint={teacher},{copy}"
    assert cls_kd(*command[:3], "-m", *TINY, "method=hinton", swept, "out=study") == 0
    names = sorted(p.name for p in (here / "study" / "pictures0-1.00").iterdir())
    assert len(names) == 2
    assert all(name.startswith("resnet10-hinton-s0-checkpoint") for name in names)


@pytest.mark.parametrize("override", ["batch_size", "batch_size=0", "data=cifar10"])
def test_evaluate_refuses_bad_overrides(finished, capsys, override):
    assert cls_kd("evaluate", str(finished), override) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("head", ["linear", "published"])
def test_torchvision_state_dict_as_teacher(command, head, tmp_path):
    model = resnet18(num_classes=2) if head == "linear" else resnet("resnet18", 2).model
    weights = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "theirs.pth")
    assert cls_kd(*command, f"teacher.checkpoint={tmp_path / 'theirs.pth'}", "method=hinton") == 0


def test_builtin_shapes_need_no_download(here):
    options = ["data.source.train=40", "data.source.test=20", "method=no_teacher", "out=run"]
    assert cls_kd("run", *TINY, *options) == 0


@pytest.mark.slow
def test_a_stored_teacher_belongs_to_its_data(pictures, here, capsys):
    shutil.copytree(pictures, here / "data")
    data = ["run", "data=folder", "data.root=data", *TINY, "teacher.epochs=1", "method=hinton"]
    assert cls_kd(*data, "out=one") == 0
    (here / "data" / "train" / "dark" / "1.png").rename(
        here / "data" / "train" / "bright" / "x.png"
    )
    assert cls_kd(*data, "out=two") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "was trained on other content of this data set; the teacher is trained anew" in said
    assert len([*(here / "runs" / "teachers").iterdir()]) == 2
    hashes = {
        json.loads((here / name / "manifest.json").read_text())["teacher_hash"]
        for name in ("one", "two")
    }
    assert len(hashes) == 2


def interrupted(command, here, monkeypatch) -> Path:
    """A run that was stopped after its first stage."""

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("stagewise_kd.training.stages.graft_score", stop)
        assert cls_kd(*command) == 1
    return here / "run"


@pytest.mark.parametrize("in_memory", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_an_interrupted_run_does_not_go_on_with_other_images(
    command, pictures, here, monkeypatch, capsys, in_memory
):
    shutil.copytree(pictures, here / "data")
    command += ["data.root=data", f"data.in_memory={in_memory}"]
    run = interrupted(command, here, monkeypatch)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    first = here / "data" / "train" / "dark" / "1.png"
    kept = first.read_bytes()
    Image.new("RGB", (41, 36), (40, 40, 2)).save(first)
    assert cls_kd(*command) == 2
    assert "samples of the data have another content" in capsys.readouterr().err
    first.write_bytes(kept)
    for n in range(30):
        shutil.copy(first, here / "data" / "train" / "dark" / f"new{n}.png")
    assert cls_kd(*command) == 2
    assert "samples were train 43, val 5, test 8, now train 70, val 8, test 8" in (
        capsys.readouterr().err
    )
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    shutil.rmtree(here / "data")
    shutil.copytree(pictures, here / "data")
    assert cls_kd(*command) == 0


def test_an_interrupted_run_does_not_go_on_with_another_teacher(
    command, here, teacher, monkeypatch, capsys
):
    (here / "teacher.pt").write_bytes(teacher.read_bytes())
    command += ["teacher.checkpoint=teacher.pt"]
    interrupted(command, here, monkeypatch)
    torch.manual_seed(5)
    torch.save(resnet("resnet18", 2).model.state_dict(), here / "teacher.pt")
    assert cls_kd(*command) == 2
    assert "the teacher has other weights" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [("--cfg", "job"), ("--cfg=job",), ("-c", "job")])
def test_flags_come_before_the_settings_or_behind(flags, capsys):
    assert cls_kd("run", *flags, "epochs=3", "lr=0.5") == 0
    before = capsys.readouterr().out
    assert "epochs: 3" in before
    assert cls_kd("run", "epochs=3", "lr=0.5", *flags) == 0
    assert capsys.readouterr().out == before


class TestBadInput:
    """One clear message, status 2, nothing left behind."""

    def said(self, capsys, *argv: str, kept: tuple[str, ...] = ()) -> str:
        assert cls_kd(*argv) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert error.startswith("error: ")
        assert sorted(p.name for p in Path.cwd().iterdir()) == sorted(kept)
        return error

    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("student=resnet11", ["student/resnet11", "resnet10", "resnet26"]),
            ("experiment=methods_smal", ["experiment/methods_smal", "methods_small"]),
            ("data.fracton=0.5", ["data.fracton", "did you mean data.fraction?"]),
            ("epoch=3", ["'epoch'", "did you mean epochs?"]),
            ("method=hinton method.temprature=3", ["did you mean method.temperature?"]),
            ("method=hinton method.patience=3", ["other choices of method= have it"]),
            ("data.root=nowhere", ["data.root=", "nowhere: no such folder"]),
            ("data.fraction=0", ["data.fraction=0", "above 0 and up to 1"]),
            ("data.fraction=lots", ["data.fraction=lots"]),
            ("epochs=0", ["epochs=0: give a whole number from 1 up"]),
            ("method.head=best", ["method.head=best: give labels or teacher"]),
            ("method.n_features=7", ["method.n_features=7: give 1 to 5"]),
            ("eval.protocol=cheat", ["eval.protocol=cheat: give holdout or paper"]),
            ("teacher=resnet34", ["this is a resnet18", "pick teacher=resnet18"]),
            ("student.init=nowhere.pt", ["nowhere.pt: there is no such file or folder"]),
            ("teacher.prefix=old", ["teacher.prefix=old: no network is there, but no prefix"]),
            ("teacher.checkpoint=nowhere.pt", ["nowhere.pt: no such file"]),
            ("batch_size=0", ["batch_size=0: give a whole number from 1 up"]),
            ("lr=fast", ["lr=fast: give a number above 0"]),
            ("data.size=[32]", ["data.size=[32]: give one side"]),
            ("data.splits=nowhere", ["train.txt: no such file"]),
            ("data.size=null", ["data.size=null: give one side"]),
            ("data.val=-3", ["data.val=-3: give a number of images"]),
            ("data.val=100", ["data.val=100: leaves none of 48 train images"]),
            ("graft=maybe", ["graft=maybe: give true or false"]),
            ("cache.views=0", ["cache.views=0: give a whole number from 1 up"]),
            ("optimizer.weight_decai=1", ["optimizer=Adam", "argument 'weight_decai'; optimizer."]),
            ("cache.dtype=int8", ["cache.dtype=int8: give bfloat16"]),
            ("trainer.max_epochs=3", ["trainer.max_epochs: the run sets it itself", "epochs=N"]),
            ("trainer.accelerator=tpuu", ["Lightning's Trainer does not take that", "tpuu"]),
            ("trainer.no_such_option=1", ["Lightning's Trainer", "no_such_option"]),
            ("trainer.precision=16-true", ["trainer.precision=16-true: give auto, 32-true"]),
            ("trainer.check_val_every_n_epoch=2", ["check_val_every_n_epoch", "every one"]),
            ("trainer.limit_val_batches=0", ["limit_val_batches=0", "every one is validated"]),
        ],
    )
    def test_override(self, command, capsys, override, words):
        error = self.said(capsys, *command, *override.split())
        for word in words:
            assert word in error

    def test_a_bad_plan_is_found_before_the_teacher_is_trained(self, command, capsys):
        bad = ["teacher.checkpoint=null", "teacher=resnet50", "method.adapter=none"]
        assert "set adapter=conv1x1" in self.said(capsys, *command, *bad)

    def test_folder_without_train(self, command, capsys, tmp_path):
        (tmp_path / "data" / "photos").mkdir(parents=True)
        error = self.said(capsys, *command, f"data.root={tmp_path / 'data'}")
        assert "expected train in it, found photos" in error

    def test_class_folder_without_images_and_damaged_files(
        self, command, pictures, capsys, tmp_path
    ):
        for split in ("train", "test"):
            for name in ("bright", "dark"):
                (tmp_path / "data" / split / name).mkdir(parents=True)
        error = self.said(capsys, *command, f"data.root={tmp_path / 'data'}")
        for folder in ("train", "train/bright", "train/dark", "test"):
            assert f"{folder} holds no images" in error

    def test_truncated_jpegs_are_named_together(self, command, pictures, capsys, tmp_path):
        root = tmp_path / "data"
        shutil.copytree(pictures, root)
        bad = [root / "train" / "dark" / "0.jpg", root / "test" / "bright" / "2.jpg"]
        for path in bad:
            Image.effect_noise((64, 64), 50).convert("RGB").save(path)
            path.write_bytes(path.read_bytes()[:-400])
        error = self.said(capsys, *command, f"data.root={root}")
        assert str(bad[0]) in error
        assert str(bad[1]) in error

    def test_images_of_16_bits(self, command, pictures, capsys, tmp_path):
        root = tmp_path / "data"
        shutil.copytree(pictures, root)
        bad = root / "train" / "dark" / "deep.png"
        Image.new("I;16", (40, 40), 4000).save(bad)
        error = self.said(capsys, *command, f"data.root={root}")
        assert f"{bad} (mode I;16: pixels of more than 8 bits" in error

    def test_teacher_of_other_classes(self, command, capsys, tmp_path):
        torch.save(resnet("resnet18", 5).model.state_dict(), tmp_path / "five.pt")
        error = self.said(capsys, *command, f"teacher.checkpoint={tmp_path / 'five.pt'}")
        assert "the teacher knows 5 classes, the data has 2 (bright, dark)" in error

    def test_teacher_of_other_channels(self, command, capsys, tmp_path):
        model = resnet18(num_classes=2)
        model.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        torch.save(model.state_dict(), tmp_path / "grey.pt")
        error = self.said(capsys, *command, f"teacher.checkpoint={tmp_path / 'grey.pt'}")
        assert "takes 1, classifiers read every image as RGB, grey ones too" in error

    def test_teacher_of_swapped_classes(self, command, capsys, tmp_path, here):
        model = resnet18(num_classes=2).eval()
        model.fc, head = torch.nn.Identity(), model.fc
        levels = (torch.tensor([[200.0], [40.0]]) / 255 - 0.45) / 0.225
        with torch.no_grad():
            bright, dark = model(levels.view(2, 1, 1, 1).expand(-1, 3, 32, 32))
            head.weight[0] = dark - bright
            head.weight[1] = bright - dark
            head.bias[0] = (bright - dark) @ (bright + dark) / 2
            head.bias[1] = -head.bias[0]
        model.fc = head
        torch.save(model.state_dict(), tmp_path / "swapped.pt")
        swapped = [*command, f"teacher.checkpoint={tmp_path / 'swapped.pt'}", "method=hinton"]
        error = self.said(capsys, *swapped)
        assert "right on 0.0% of 5 validation images, where chance gives 50.0%" in error
        assert "order of its classes bright, dark" in error
        assert cls_kd(*swapped, "teacher.check=false") == 0
        said = " ".join(capsys.readouterr().err.split())
        assert "the validation images are cut off train, and a teacher trained elsewhere" in said
        assert json.loads((here / "run" / "result.json").read_text())["val_may_be_seen"]

    def test_pickle_that_is_no_checkpoint(self, command, capsys, tmp_path):
        (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"weights": Path("x")}))
        error = self.said(capsys, *command, f"teacher.checkpoint={tmp_path / 'bad.pkl'}")
        assert "not a checkpoint that can be read safely" in error

    def test_out_that_cannot_be_written(self, command, capsys, tmp_path):
        (tmp_path / "file").write_text("")
        error = self.said(capsys, *command, f"out={tmp_path / 'file' / 'run'}")
        assert "cannot be written (Not a directory); give another out=DIR" in error

    def test_store_of_teachers_that_cannot_be_written(self, command, capsys, tmp_path, here):
        (tmp_path / "file").write_text("")
        own = ["teacher.checkpoint=null", f"teacher.store={tmp_path / 'file'}"]
        error = self.said(capsys, *command, *own)
        assert f"error: {tmp_path / 'file'}/resnet18-" in error
        assert "cannot be written (Not a directory); give another teacher.store=DIR" in error
        assert not [*here.glob("run*")]

    def test_predict_into_what_cannot_be_written(self, finished, pictures, capsys, tmp_path):
        (tmp_path / "file").write_text("")
        out = tmp_path / "file" / "seen"
        error = self.said(
            capsys, "predict", str(finished), str(pictures / "test"), "--out", str(out)
        )
        assert f"{out}: cannot be written (Not a directory); give an --out that can" in error

    def test_run_of_the_other_front_end(self, command, capsys, tmp_path):
        run = tmp_path / "other"
        (run / "student").mkdir(parents=True)
        (run / "student" / "network.json").write_text('{"task": "segmentation", "network": {}}')
        for argv in (
            ["evaluate", str(run)],
            ["predict", str(run), "a.png"],
            [*command, f"teacher.checkpoint={run}"],
        ):
            error = self.said(capsys, *argv)
            assert f"{run}: is a segmentation run, expected a classification run" in error

    @pytest.mark.parametrize("name", ["model.safetensors", "network.json"])
    def test_damaged_student(self, finished, command, capsys, tmp_path, name):
        run = tmp_path / "damaged"
        shutil.copytree(finished, run)
        file = run / "student" / name
        file.write_bytes(file.read_bytes()[:100])
        for argv in (["evaluate", str(run)], [*command, f"teacher.checkpoint={run}"]):
            assert f"{file}: not " in self.said(capsys, *argv)

    @pytest.mark.parametrize("out", ["photos", "photos/seen", "."])
    def test_predict_where_images_are_read(self, finished, pictures, capsys, here, out):
        shutil.copytree(pictures / "test" / "dark", here / "photos")
        argv = [str(finished), "photos/1.png" if out == "." else "photos", "--out", out]
        if out == ".":
            shutil.move(here / "photos" / "1.png", here / "1.png")
            argv[1] = "1.png"
        before = {p: p.read_bytes() for p in here.rglob("*.*")}
        error = self.said(capsys, "predict", *argv, kept=tuple(p.name for p in here.iterdir()))
        assert f"--out {out}: lies where images are read" in error
        assert before == {p: p.read_bytes() for p in here.rglob("*.*")}

    def test_predict_no_class(self, capsys):
        error = self.said(capsys, "predict", "run", "a.png", "--top", "0")
        assert "--top 0: give how many classes an image, 1 or more" in error

    def test_unfinished_run(self, capsys):
        assert "holds no finished student" in self.said(capsys, "evaluate", "nowhere")
        assert "holds no finished run" in self.said(capsys, "compare", "nowhere")

    def test_predict_on_nothing(self, finished, capsys):
        error = self.said(capsys, "predict", str(finished), "nowhere.jpg")
        assert "nowhere.jpg ([Errno 2] No such file" in error
