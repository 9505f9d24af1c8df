import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.networks.segmenters import segmenter
from stagewise_kd.networks.starting import start_from
from stagewise_kd.runs.student import save_student
from stagewise_kd.system.errors import UserError
from tests.conftest import tiny_net

UNET = {
    **{"model": "unet", "encoder": "resnet10", "classes": 3, "channels": 3, "width": 1.0},
    **{"arguments": {}, "convolutions": None, "mean": None, "std": None},
}


def kept(net: BlockNet) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.model.state_dict().items()}


def changed(net: BlockNet, before: dict[str, torch.Tensor], source: nn.Module, home: str = ""):
    """The first parts of the names of what is not as in the source, which is as it was."""
    now, given = net.model.state_dict(), source.state_dict()
    own = [
        name
        for name in now
        if not now[name].equal(given.get(name.removeprefix(home), now[name] + 1))
    ]
    assert all(now[name].equal(before[name]) for name in own)
    return {name.rpartition(".")[0] for name in own}


def test_a_head_of_other_classes_stays_random(tmp_path):
    source, student = resnet("resnet10", 5), resnet("resnet10", 3)
    before, path = kept(student), tmp_path / "w.pt"
    weights = {f"module.{name}": value for name, value in source.model.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 3}, path)
    assert start_from(student, path) == (
        f"student: {len(before) - 2} of {len(before)} tensors from {path}; head: other shapes"
    )
    assert changed(student, before, source.model) == {"fc.2"}


def test_a_head_of_as_many_other_classes_stays_random(tmp_path):
    source, student = resnet("resnet10", 3), resnet("resnet10", 3)
    before = kept(student)
    save_student(tmp_path / "student", source, {"classes": ["a", "b", "c"]})
    assert start_from(student, tmp_path, ["a", "b", "d"]).endswith("; head: other classes")
    assert changed(student, before, source.model) == {"fc.0", "fc.2"}
    assert start_from(student, tmp_path, ["a", "b", "c"]).endswith(f"tensors from {tmp_path}")


def test_a_classifier_as_the_encoder_of_a_unet_and_back(tmp_path):
    source, student = resnet("resnet10", 5), segmenter(**UNET)
    for net in (source, student):
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean)
    before, run = kept(student), tmp_path / "run"
    run.mkdir()
    save_student(run / "student", source, {})
    told = start_from(student, run)
    assert told.startswith(f"student: 72 of {len(before)} tensors from {run}; ")
    assert told.endswith("decoder0, decoder1, decoder2, decoder3, decoder4, head: not there")
    left = changed(student, before, source.model, "encoder.")
    assert left and all(name.startswith(("decoder.", "segmentation_head")) for name in left)
    again = resnet("resnet10", 5)
    before, path = kept(again), tmp_path / "unet.pt"
    torch.save(student.model.state_dict(), path)
    assert start_from(again, path) == (
        f"student: 72 of {len(before)} tensors from {path}; head: not there"
    )
    assert changed(again, before, student.model.encoder) == {"fc.0", "fc.2"}


def test_a_wider_network_gives_what_fits(tmp_path):
    student, path = tiny_net(), tmp_path / "w.safetensors"
    before = kept(student)
    with torch.no_grad():
        other = tiny_net(seed=1).model
        weights = other.state_dict() | {"b.0.weight": torch.zeros(16, 4, 3, 3)}
    save_file(weights, path)
    assert start_from(student, path).endswith(f"13 of 14 tensors from {path}; b: other shapes")
    assert changed(student, before, other) == {"b.0"}


def test_other_normalization_is_told(tmp_path):
    save_student(tmp_path / "student", tiny_net(), {})
    student = tiny_net()
    assert "normalized" not in start_from(student, tmp_path)
    student.mean += 0.1
    assert start_from(student, tmp_path).endswith(
        "; its images were normalized by data.mean=[0.5,0.5,0.5] data.std=[0.25,0.25,0.25]"
    )


def test_what_no_student_can_start_from(tmp_path):
    student, path = tiny_net(), tmp_path / "w.safetensors"
    before = kept(student)
    with pytest.raises(UserError, match="there is no such file or folder; give teacher, random"):
        start_from(student, tmp_path / "teachr")
    with pytest.raises(UserError, match=r"holds no finished student and none of model\.safetens"):
        start_from(student, tmp_path)
    save_file({name: torch.zeros(4) for name in ("x.weight", "y.weight", "a.1.bias")}, path)
    with pytest.raises(UserError, match=r"no weights of the student .* of a network of x, y; pick"):
        start_from(student, path)
    assert all(value.equal(before[name]) for name, value in student.model.state_dict().items())
