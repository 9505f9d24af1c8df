import pytest
import torch
from torch import nn

from stagewise_kd.networks.blocks import Block, BlockNet
from stagewise_kd.networks.inheriting import inherit
from stagewise_kd.networks.matching import matched
from stagewise_kd.networks.resnet import resnet

IMAGE = (3, 32, 32)


def nets(student: str, teacher: str, heads: tuple[str, str] = ("linear", "linear")):
    found = [resnet(n, 10, head) for n, head in zip((student, teacher), heads, strict=True)]
    for net in found:
        net.measure(IMAGE)
    return found


@pytest.mark.parametrize(("pick", "second"), [("first", 1), ("spread", 5)])
def test_of_repeated_modules_the_first_or_those_spread_over_all(pick, second):
    student, teacher = nets("resnet18", "resnet34")
    told = inherit(student, teacher, matched(student, teacher), pick)
    ours, theirs = student.model.state_dict(), teacher.model.state_dict()
    for place, source in ((0, 0), (1, second)):
        assert ours[f"layer3.{place}.conv2.weight"].equal(theirs[f"layer3.{source}.conv2.weight"])
        name = "bn1.running_var"
        assert ours[f"layer3.{place}.{name}"].equal(theirs[f"layer3.{source}.{name}"])
    assert ours["fc.weight"].equal(theirs["fc.weight"])
    assert told.tensors == told.total == len(ours)
    assert f"layer3: 0, {second} of 6" in str(told)


def test_what_differs_in_shape_stays_as_it_was():
    student, teacher = nets("resnet10", "resnet50")
    before = {name: value.clone() for name, value in student.model.state_dict().items()}
    told = inherit(student, teacher, matched(student, teacher))
    after, theirs = student.model.state_dict(), teacher.model.state_dict()
    changed = {name for name in after if not after[name].equal(before[name])}
    assert {name.split(".")[0] for name in changed} == {"conv1"}
    assert after["conv1.weight"].equal(theirs["conv1.weight"])
    assert "from the teacher" in str(told)


def test_a_teacher_stays_as_it_is():
    student, teacher = nets("resnet10", "resnet34")
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    inherit(student, teacher, matched(student, teacher))
    with torch.no_grad():
        for parameter in student.model.parameters():
            parameter.add_(1)
    assert all(value.equal(before[name]) for name, value in teacher.model.state_dict().items())


def chain(count: int, ends: tuple[int, ...]) -> BlockNet:
    """Equal layers in a row, cut behind some of them, and a head."""
    torch.manual_seed(count)
    model = nn.ModuleDict()
    model["blocks"] = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(count))
    model["head"] = nn.Flatten()
    starts = (0, *(end + 1 for end in ends))
    parts = [
        Block(f"blocks.{end}", nn.Sequential(*model["blocks"][start : end + 1]), (read,))
        for start, end, read in zip(
            starts, ends, ("image", *(f"blocks.{end}" for end in ends)), strict=False
        )
    ]
    parts.append(Block("head", model["head"], (parts[-1].name,), "head"))
    return BlockNet(model, parts, [0.0], [1.0])


def test_modules_correspond_within_the_parts_that_are_matched():
    """Of two parts of three blocks, two students' blocks each: the outer ones of each part."""
    student, teacher = chain(4, (1, 3)), chain(6, (2, 5))
    told = inherit(student, teacher, (("blocks.1", "blocks.2"), ("blocks.3", "blocks.5")))
    for ours, theirs in ((0, 0), (1, 2), (2, 3), (3, 5)):
        one, other = student.model["blocks"][ours], teacher.model["blocks"][theirs]
        assert one.weight.equal(other.weight)
    assert str(told) == "8 of 8 tensors from the teacher; blocks: 0, 2, 3, 5 of 6"
