from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torchvision.models import efficientnet_b0, resnet18, resnet34, wide_resnet50_2

from cls_kd.checkpoints import resnet_weights
from stagewise_kd.networks.recognizing import modules_of
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.system.errors import UserError


def under(prefix: str, weights: dict) -> dict:
    return {f"{prefix}{key}": value for key, value in weights.items()}


@pytest.fixture(scope="module")
def student() -> dict:
    return resnet18(num_classes=2).state_dict()


@pytest.fixture(scope="module")
def teacher() -> dict:
    return resnet18(num_classes=2).state_dict()


def read(tensors: dict, prefix: str | None = None, name: str = "resnet18") -> dict:
    """The weights of a checkpoint in a network of ours."""
    head, weights = resnet_weights(tensors, name, 2, prefix, Path("w.pt"))
    net = resnet(name, 2, head)
    net.model.load_state_dict(weights)
    return net.model.state_dict()


def same(one: dict, other: dict) -> bool:
    return [*one] == [*other] and all(one[key].equal(other[key]) for key in one)


@pytest.mark.parametrize(
    "prefix", ["", "model.", "state_dict.net.", "net.", "weights.", "params.module.", "any.key."]
)
def test_the_only_network_is_found_wherever_it_is(teacher, prefix):
    others = {"optimizer.state.0.exp_avg": torch.zeros(64, 3, 7, 7)} if prefix else {}
    assert same(read(under(prefix, teacher) | others), teacher)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("module.student.", "module.teacher."),
        ("state_dict.model.", "state_dict.ema_model."),
        ("model.", "model_ema.module."),
    ],
)
def test_of_several_networks_the_teacher_or_ema(student, teacher, first, second):
    assert same(read(under(first, student) | under(second, teacher)), teacher)
    assert same(read(under(second, teacher) | under(first, student)), teacher)


def test_several_networks_none_of_which_is_plainly_meant(student, teacher, capsys):
    tensors = under("state_dict.old.", student) | under("state_dict.new.", teacher)
    with pytest.raises(UserError) as caught:
        read(tensors)
    assert "(state_dict.old: resnet18; state_dict.new: resnet18); choose with teacher.prefix" in (
        str(caught.value)
    )
    for prefix in ("new", "new.", "state_dict.new"):
        assert same(read(tensors, prefix), teacher)
    with pytest.raises(UserError, match=r"teacher.prefix=ew: no network is there, but .*old"):
        read(tensors, "ew")
    both = under("teacher.", teacher) | under("student_ema.", student)
    with pytest.raises(UserError, match="holds several networks"):
        read(both)
    assert same(read(both, "student_ema"), student)


def test_of_networks_of_several_kinds_the_one_asked_for(student, capsys):
    tensors = under("a.", student) | under("b.", resnet34(num_classes=2).state_dict())
    assert same(read(tensors), student)
    said = " ".join(capsys.readouterr().err.split())
    assert said == "w.pt: holds a: resnet18; b: resnet34; taken: a"


def heads(weights: dict) -> dict[str, dict]:
    body = {key: value for key, value in weights.items() if not key.startswith("fc.")}
    parts = {key: weights[f"fc.{key}"] for key in ("weight", "bias")}
    nested = resnet18(num_classes=2)
    nested.fc = nn.Sequential(nn.Dropout(), nested.fc)
    nested.load_state_dict(body | under("fc.1.", parts))
    theirs = timm.create_model("resnet18", num_classes=2)
    theirs.load_state_dict(weights)
    pair = nn.Sequential(OrderedDict(a=nn.Identity(), b=nn.Linear(512, 2)))
    pair.b.load_state_dict(parts)
    return {
        "dropout": nested.state_dict(),
        "timm": theirs.state_dict(),
        "classifier": body | under("classifier.", parts),
        "head.fc": body | under("head.fc.", parts),
        "mmpretrain": under("state_dict.", under("backbone.", body) | under("head.fc.", parts)),
        "sequential": under("0.", body) | under("1.", parts),
        "beside another": under("net.", body)
        | pair.state_dict()
        | {"p.weight": torch.ones(7, 512)},
    }


@pytest.mark.parametrize("kind", heads(resnet18(num_classes=2).state_dict()))
def test_a_linear_head_of_any_name(teacher, kind):
    assert same(read(heads(teacher)[kind]), teacher)


def test_a_head_that_is_not_known(teacher):
    body = {key: value for key, value in teacher.items() if not key.startswith("fc.")}
    with pytest.raises(UserError, match="its head is missing; expected one linear layer of 512"):
        read(body)
    deeper = nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2)).state_dict()
    with pytest.raises(UserError, match=r"its head is fc.0.weight \(8, 512\).*cls_kd.distill"):
        read(body | under("fc.", deeper))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (resnet34, "this is a resnet34, the run asks for teacher=resnet18; pick teacher=resnet34"),
        (wide_resnet50_2, "pick teacher=torchvision/wide_resnet50_2"),
        (efficientnet_b0, "pick teacher=torchvision/efficientnet_b0"),
    ],
)
def test_another_network_is_named(network, words):
    with torch.device("meta"):
        weights = network(num_classes=5).state_dict()
    with pytest.raises(UserError) as caught:
        read(under("model.", weights), name="resnet50" if "wide" in words else "resnet18")
    assert words in str(caught.value)


def test_a_network_that_nobody_knows_is_told_by_its_modules():
    network = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    tensors = under("state_dict.model.", network.state_dict())
    assert modules_of(tensors) == "a network of a, b"
