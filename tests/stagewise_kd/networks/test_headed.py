import pytest
import torch
from torch import nn

from stagewise_kd.networks.blocks import Block
from stagewise_kd.networks.headed import with_head
from stagewise_kd.networks.origin import rebuild
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.system.errors import UserError

IMAGE = (3, 32, 32)


def test_a_head_of_the_same_kind_stays():
    student = resnet("resnet10", 10)
    assert with_head(student, resnet("resnet34", 10), IMAGE) is student


def test_the_teachers_head_replaces_one_of_another_kind():
    student, teacher = resnet("resnet10", 10), resnet("resnet34", 10, "linear")
    net = with_head(student, teacher, IMAGE).eval()
    assert net.names == student.names
    image = torch.rand(2, *IMAGE)
    feature = student.eval().features({"image": image}, {"layer4"})["layer4"]
    expected = teacher.eval().features({"layer4": feature}, {"logits"})["logits"]
    assert net(image).equal(expected)
    assert net.model.eval()((image - net.mean) / net.std).equal(expected)
    theirs = {id(parameter) for parameter in teacher.model.parameters()}
    assert not theirs & {id(parameter) for parameter in net.model.parameters()}
    assert "fc.0.weight" not in str(net.model.state_dict().keys())


def test_widths_that_differ_get_a_convolution_that_stays():
    student, teacher = resnet("resnet10", 10), resnet("resnet50", 10)
    net = with_head(student, teacher, IMAGE)
    assert net.names == ("stem", "layer1", "layer2", "layer3", "layer4", "adapter", "head")
    net.measure(IMAGE)
    assert net.shapes["adapter"] == (2048, 1, 1)
    extra = sum(p.numel() for p in net.blocks["adapter"].module.parameters())
    assert extra == 512 * 2048 + 2048


def test_built_again_it_computes_the_same():
    net = with_head(resnet("resnet10", 10), resnet("resnet50", 10), IMAGE).eval()
    assert net.origin is not None
    again = rebuild(net.origin.build, net.origin.arguments)
    again.model.load_state_dict(net.model.state_dict())
    image = torch.rand(2, *IMAGE)
    assert again.eval()(image).equal(net(image))


def test_last_features_of_other_resolutions():
    student, teacher = resnet("resnet10", 10), resnet("resnet50", 10)
    larger = nn.Sequential(teacher.blocks["layer4"].module, nn.Upsample(scale_factor=2))
    teacher.blocks["layer4"] = Block("layer4", larger, ("layer3",))
    with pytest.raises(
        UserError, match=r"'layer4' is \(512, 1, 1\), the teacher's 'layer4' \(2048, 2, 2\)"
    ):
        with_head(student, teacher, IMAGE)
