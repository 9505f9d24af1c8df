import json
import sys
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import get_pretrained_cfg

from cls_kd.networks import make_network, network_faults, pretrained
from cls_kd.teacher import load_teacher
from stagewise_kd.networks.libraries import library_model
from stagewise_kd.networks.names import name_fault
from stagewise_kd.networks.origin import rebuild
from stagewise_kd.runs.composing import composing
from stagewise_kd.runs.config import check_values, resolved
from stagewise_kd.runs.own_function import own_model
from stagewise_kd.runs.student import load, open_student, save_student
from stagewise_kd.system.errors import UserError
from tests.conftest import TIMM_OPENS_FOLDERS

NAME = "timm/test_efficientnet"
CLASSES = ["a", "b", "c"]
DATA = {"name": "d", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "size": 32}
OWN = """
from torch import nn

def small(num_classes, width=4):
    conv = nn.Conv2d(3, width, 3, 2)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
    return nn.Sequential(conv, nn.ReLU(inplace=True), head)

def number(num_classes):
    return num_classes

def failing(num_classes):
    raise ValueError("too few")
"""


def settings(name: str, **more) -> dict:
    return {"name": name, "head": None, "at": None, "arguments": {}} | more


def config(path, name: str = NAME, **more) -> dict:
    beside = {"checkpoint": str(path), "prefix": None, "mean": None, "std": None}
    return {"teacher": settings(name, **beside) | more, "data": DATA}


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "mynets.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path.remove(str(tmp_path))
    del sys.modules["mynets"]


@pytest.fixture(scope="module")
def trained() -> torch.nn.Module:
    torch.manual_seed(1)
    return timm.create_model("test_efficientnet", num_classes=3).eval()


@pytest.mark.parametrize(
    "asked",
    [
        settings(NAME, arguments={"drop_rate": 0.1}),
        settings("timm/test_vit", at=["blocks.1"]),
        settings("torchvision/squeezenet1_1"),
    ],
)
def test_a_network_of_a_library_is_built_again_from_its_folder(asked, tmp_path):
    net = make_network({"data": DATA}, asked, 3).eval()
    assert len(net.names) > 1 and net.names[-1] == "head"
    save_student(tmp_path, net, {"classes": CLASSES})
    again, _ = open_student(tmp_path)
    image = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert again(image).equal(net(image)) and again(image).shape == (2, 3)
    assert again.names == net.names and again.origin == net.origin
    if asked["name"].startswith("timm/") and TIMM_OPENS_FOLDERS:
        plain = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
        assert plain.pretrained_cfg["mean"] == DATA["mean"]
        with torch.inference_mode():
            assert plain(image).equal(load(tmp_path)(image))


def test_names_that_no_library_has():
    assert "did you mean timm/efficientnet_b0 or " in name_fault("timm/efficentnet_b0")
    assert "did you mean torchvision/resnet18 or " in name_fault("torchvision/resnt18")
    assert name_fault("timm/resnet50.a1_in1k") is None
    with composing("cls") as compose:
        cfg = compose(["student=timm/efficentnet_b0", "student.at=x"])
    with pytest.raises(UserError, match=r"student=timm/effic.*did you mean.*(\n.*)*student.at=x"):
        check_values(resolved(cfg))


def test_options_that_do_not_go_with_a_network():
    faults = network_faults(
        {"student": settings("smp/resnet18"), "teacher": settings(NAME, head="linear")}
    )
    assert faults[0].startswith("student=smp/resnet18: there are resnet10, ")
    assert f"{NAME} has a head of its own" in faults[1]
    for given, words in (
        ({"depht": 3}, "cannot be built: .*depht"),
        ({"checkpoint_path": "x"}, "arguments.checkpoint_path: is set by the run itself"),
    ):
        with pytest.raises(UserError, match=words):
            library_model("timm/test_vit", 3, (32, 32), given)


def test_no_file_names_a_function_that_is_called():
    for build in ("os.system", "stagewise_kd.networks.origin.import_module"):
        with pytest.raises(UserError, match="but only functions in stagewise_kd"):
            rebuild(build, {"name": "antigravity"})
    with pytest.raises(UserError, match="is of no known library"):
        rebuild(
            "stagewise_kd.networks.libraries.library_net",
            {"name": "os:getcwd"} | {"classes": 3, "size": [32, 32]},
        )


def test_a_function_of_ones_own(own):
    net = make_network({"data": DATA}, settings("mynets:small", arguments={"width": 6}), 3)
    assert net.model[0].out_channels == 6 and net(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    for name, words in (
        ("mynets:smal", "mynets has no function smal; it has small, number, failing"),
        ("mynet:small", f"there is no module mynet in {own} or among the installed"),
        ("mynets.py:small", "expected module:function, such as mynets:small"),
        ("mynets:number", r"number\(num_classes=3\) gives a int; expected a torch.nn.Module"),
        ("mynets:failing", r"failing\(num_classes=3\) failed: too few \(.*mynets.py, line 13\)"),
    ):
        with pytest.raises(UserError, match=words):
            own_model(name, 3)


def test_a_checkpoint_of_a_network_of_a_library(trained, tmp_path):
    weights = trained.state_dict()
    path, image = tmp_path / "w.pt", torch.rand(2, 3, 32, 32)
    other = {key: torch.zeros_like(value) for key, value in weights.items()}
    half = {
        key: value.half() if value.is_floating_point() else value for key, value in weights.items()
    }
    for number, content in enumerate(
        (
            weights,
            half,
            {"state_dict": {f"module.{k}": v for k, v in weights.items()}, "epoch": 3},
            {"state_dict": {f"model._orig_mod.{k}": v for k, v in weights.items()}},
            {f"backbone.{key}": value for key, value in weights.items()},
            {"state_dict": other, "state_dict_ema": weights, "arch": "x"},
        )
    ):
        torch.save(content, path)
        net = load_teacher(config(path), CLASSES).eval()
        with torch.inference_mode():
            found, wanted = net(image), trained((image - net.mean) / net.std)
        torch.testing.assert_close(found, wanted, atol=1e-5 if number != 1 else 0.05, rtol=1e-2)
    assert net.mean.flatten().tolist() == pytest.approx(DATA["mean"])
    with pytest.raises(UserError, match="the teacher knows 3 classes, the data has 2"):
        load_teacher(config(path), ["a", "b"])
    torch.save(library_model("torchvision/densenet121", 3, (32, 32)).state_dict(), path)
    with pytest.raises(UserError, match=r"this is a torchvision/densenet121, .*; pick tea"):
        load_teacher(config(path), CLASSES)


def test_folders_of_save_pretrained(trained, tmp_path):
    args: dict[str, Any] = {"architecture": "test_efficientnet", "num_classes": 3}
    args["model_args"] = {"num_classes": 3, "in_chans": 3, "drop_rate": 0.1}
    args["pretrained_cfg"] = {"mean": [0.5] * 3, "std": [0.2] * 3}
    (tmp_path / "config.json").write_text(json.dumps(args))
    with pytest.raises(UserError, match=r"holds a config.json, but none of model.safetensors, "):
        load_teacher(config(tmp_path), CLASSES)
    save_file(
        {f"timm_model.{k}": v for k, v in trained.state_dict().items()},
        tmp_path / "model.safetensors",
    )
    net = load_teacher(config(tmp_path), CLASSES)
    assert net.mean.flatten().tolist() == [0.5] * 3
    assert net.model.conv_stem.weight.equal(trained.conv_stem.weight)
    with pytest.raises(UserError, match=f"the run asks for timm/test_vit; set teacher={NAME}"):
        load_teacher(config(tmp_path, "timm/test_vit"), CLASSES)


def test_weights_that_cannot_be_had(monkeypatch, tmp_path):
    bare = next(n for n in timm.list_models("vit_*") if not get_pretrained_cfg(n).has_weights)
    with pytest.raises(UserError, match=f"timm has no weights for {bare}"):
        pretrained({"data": DATA}, settings(f"timm/{bare}"), 3)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"cannot fetch timm/test_vit .*teacher.checkpoint=PATH"):
        pretrained({"data": DATA}, settings("timm/test_vit"), 3)
