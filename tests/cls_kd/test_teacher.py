import json
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file

from cls_kd import front_end
from cls_kd.networks import pretrained
from cls_kd.teacher import load_teacher
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.runs.teacher import teacher_config
from stagewise_kd.system.errors import UserError

DATA = {"name": "d", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "fraction": 0.25}


def config(path, **teacher) -> dict:
    found = {"name": "resnet10", "checkpoint": str(path), "mean": None, "std": None, "epochs": 7}
    found["prefix"] = None
    found |= {"head": "published", "pretrained": False, "seed": 0}
    return {"teacher": found | teacher, "data": DATA, "seed": 3, "epochs": 1}


@pytest.fixture
def checkpoint(tmp_path):
    weights = {
        key: value.clone(memory_format=torch.contiguous_format)
        for key, value in resnet("resnet10", 2).model.state_dict().items()
    }
    metadata = {
        "mean": "[0.5, 0.5, 0.5]",
        "std": "[0.2, 0.2, 0.2]",
        "classes": json.dumps(["a", "b"]),
    }
    save_file(weights, tmp_path / "t.safetensors", metadata)
    torch.save(weights, tmp_path / "t.pt")
    return tmp_path


def test_normalization_of_the_checkpoint_wins_over_the_datas(checkpoint):
    net = load_teacher(config(checkpoint / "t.safetensors"), ["a", "b"])
    assert net.mean.flatten().tolist() == pytest.approx([0.5] * 3)
    assert load_teacher(config(checkpoint / "t.pt"), ["a", "b"]).mean.flatten().tolist() == (
        pytest.approx(DATA["mean"])
    )


def test_normalization_given_wins_over_the_checkpoints(checkpoint):
    own = config(checkpoint / "t.safetensors", mean=[0.0, 0.0, 0.0])
    net = load_teacher(own, ["a", "b"])
    assert net.mean.flatten().tolist() == [0, 0, 0]
    assert net.std.flatten().tolist() == pytest.approx([0.2] * 3)


def test_classes_in_another_order_are_refused(checkpoint):
    with pytest.raises(UserError, match="the teacher's classes are a, b, the data's b, a"):
        load_teacher(config(checkpoint / "t.safetensors"), ["b", "a"])


def test_the_teachers_run_does_not_depend_on_the_students():
    one, other = config(None), config(None)
    other |= {"seed": 4, "epochs": 9, "student": "x", "method": "y"}
    other["data"] = DATA | {"fraction": 0.1}
    assert teacher_config(one, front_end) == teacher_config(other, front_end)
    assert teacher_config(one, front_end)["epochs"] == 7
    assert teacher_config(one, front_end)["data"]["fraction"] == 1.0


def test_imagenet_weights_that_cannot_be_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def unreachable(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(UserError, match=r"cannot fetch .*no network.*teacher.checkpoint=PATH"):
        pretrained({}, {"name": "resnet18", "head": None}, 2)
    with pytest.raises(UserError, match="no ImageNet weights for resnet10"):
        pretrained({}, {"name": "resnet10", "head": None}, 2)


def test_the_shared_teacher_loads(shared):
    path = shared / "teachers" / "resnet34_cifar10.safetensors"
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog"]
    classes += ["frog", "horse", "ship", "truck"]
    net = load_teacher(config(path, name="resnet34"), classes)
    assert net.mean.flatten().tolist() == pytest.approx([0.4914, 0.4824, 0.4467])
    assert next(net.model.parameters()).dtype == torch.float32
