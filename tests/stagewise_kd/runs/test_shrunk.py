"""`student=shrunk` and `shrink`, from both command lines."""

import json

import pandas as pd
import pytest
import segmentation_models_pytorch as smp
import torch

import cls_kd.cli
import seg_kd.cli
import stagewise_kd as skd
from stagewise_kd.networks.resnet import resnet
from tests.stagewise_kd.sizing.nets import chain

DATA = ["data.source.train=16", "data.source.test=6", "data.size=32", "data.val=4"]
TINY = [*DATA, "epochs=1", "batch_size=4", "cache.views=1"]


def cli(front_end, *argv):
    with pytest.raises(SystemExit) as caught:
        front_end.cli.main(argv)
    return caught.value.code


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    torch.save(resnet("resnet18", 10).model.state_dict(), path)
    return ["teacher=resnet18", f"teacher.checkpoint={path}"]


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("unet")
    smp.Unet("resnet18", encoder_weights=None, classes=5).save_pretrained(path)
    return ["teacher=resnet18", f"teacher.checkpoint={path}"]


def params(net):
    return sum(parameter.numel() for parameter in net.parameters())


def read(path):
    return json.loads(path.read_text())


def test_a_run_makes_the_teacher_smaller_and_distills_it(here, teacher, capsys):
    command = ["run", *TINY, *teacher, "student=shrunk", "target.macs=0.6", "reuse=false"]
    assert cli(cls_kd, *command, "schedule=sequential") == 0
    (run,) = (here / "runs").glob("shapes-*/shrunk-macs0.6-stagewise-s0")
    result = read(run / "result.json")
    cost = result["cost"]
    assert result["student"] == "shrunk-macs0.6"
    assert 0.3 < cost["student"]["macs"] / cost["teacher"]["macs"] <= 0.6
    student = skd.load(run)
    assert params(student) == cost["student"]["params"]
    chosen = read(run / "manifest.json")["choice"]["choice"]["chosen"]
    said = capsys.readouterr().err
    assert all(f"{path}: {name}" in said for path, name in chosen.items() if name != "keep")
    # what is equal from the start is not trained again
    first = next(path for path, name in chosen.items() if name != "keep").split(".")[0]
    names = [stage["name"] for stage in result["stages"]]
    assert names == ["layer1", "layer2", "layer3", "layer4", "head"][int(first[-1]) - 1 :]


def test_a_run_goes_on_with_the_choice_that_it_keeps(here, teacher, capsys):
    command = ["run", *TINY, *teacher, "student=shrunk", "target.latency=0.7", "reuse=false"]
    assert cli(cls_kd, *command, "out=run") == 0
    kept = read(here / "run" / "manifest.json")["choice"]
    (here / "run" / "result.json").unlink()
    assert cli(cls_kd, *command, "out=run") == 0
    assert read(here / "run" / "manifest.json")["choice"] == kept


def test_random_weights_in_the_same_shapes(here, teacher):
    command = ["run", *TINY, *teacher, "student=shrunk", "target.macs=0.6", "method=no_teacher"]
    assert cli(cls_kd, *command, "student.init=random", "seed=1", "out=run") == 0
    cost = read(here / "run" / "result.json")["cost"]
    assert cost["student"]["macs"] <= 0.6 * cost["teacher"]["macs"]
    before = torch.load(teacher[1].partition("=")[2])["conv1.weight"]
    assert (skd.load(here / "run").conv1.weight - before).abs().max() > 0.02


def test_one_target_covers_encoder_and_decoder_which_learn_without_labels(here, unet):
    command = ["run", *TINY, *unet, "student=shrunk", "schedule=sequential"]
    assert cli(seg_kd, *command, "target.params=0.3", "decoder.train=false", "out=both") == 0
    chosen = read(here / "both" / "manifest.json")["choice"]["choice"]["chosen"]
    assert {path.split(".")[0] for path in chosen} == {"encoder", "decoder"}
    result = read(here / "both" / "result.json")
    assert result["decoder"] == "shrunk"
    stages = [stage["name"] for stage in result["stages"]]
    assert stages[-1].startswith("decoder")
    assert "head" not in stages
    assert skd.load(here / "both")(torch.rand(1, 3, 32, 32)).shape == (1, 5, 32, 32)
    assert cli(seg_kd, *command, "target.params=0.6", "decoder=teacher", "out=encoder") == 0
    chosen = read(here / "encoder" / "manifest.json")["choice"]["choice"]["chosen"]
    assert {path.split(".")[0] for path in chosen} == {"encoder"}


def test_sizes_of_a_teacher(here, teacher, capsys):
    assert cli(cls_kd, "shrink", *DATA, *teacher, "target.macs=0.5", "out=sizes") == 0
    table = pd.read_csv(here / "sizes" / "sizes.csv")
    assert table["share"].is_monotonic_decreasing
    assert table["predicted"].is_monotonic_increasing
    assert table.loc[0, ["share", "predicted", "agreement", "changed"]].tolist() == [1, 0, 1, 0]
    assert read(here / "sizes" / "choice.json")["choice"]["cost"] <= 0.5 * table["cost"][0]
    assert (here / "sizes" / "sizes.png").is_file()
    assert "of the network's; predicted loss" in capsys.readouterr().err


def test_a_network_of_ones_own(here, capsys):
    torch.save(chain(classes=10).state_dict(), "own.pt")
    lines = "from tests.stagewise_kd.sizing.nets import chain\n"
    (here / "ownnets.py").write_text(lines + "def net(num_classes): return chain(3, num_classes)\n")
    own = ["teacher=ownnets:net", "teacher.checkpoint=own.pt", "student=shrunk"]
    assert cli(cls_kd, "run", *TINY, *own, "target.params=0.6", "out=run") == 0
    assert cli(cls_kd, "evaluate", "run", "--factory", "ownnets:net") == 0
    found = skd.load(here / "run", factory=lambda: chain(classes=10))
    assert params(found) <= 0.6 * params(chain(classes=10))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["student=shrunk"], "no target: give one of macs, params and latency, such as target.m"),
        (["student=shrunk", "target.macs=2"], "target.macs=2: give a share of the network's"),
        (["student=shrunk", "target.macs=0.5", "target.params=1M"], "target.macs=0.5, target.pa"),
        (["student=shrunk", "target.params=0.001"], "target.params=0.001: nothing is that small"),
        (["target.macs=0.5"], "target.macs=0.5: is for student=shrunk"),
        (["student=shrunk", "shrink.score_steps=-1"], "shrink.score_steps=-1: give a whole"),
    ],
)
def test_bad_targets(here, teacher, options, said, capsys):
    assert cli(cls_kd, "run", *TINY, *teacher, *options, "out=run") == 2
    assert said in capsys.readouterr().err
    assert not (here / "run").exists()


def test_decoders_that_do_not_go_with_it(unet, capsys):
    for options in (["student=shrunk", "decoder=matched"], ["student=resnet10", "decoder=shrunk"]):
        assert cli(seg_kd, "run", *TINY, *unet, *options) == 2
        assert "a shrunk student has decoder=shrunk or decoder=teacher" in capsys.readouterr().err
