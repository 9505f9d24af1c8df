import pytest
import torch

from cls_kd.networks import make_network, network_faults
from stagewise_kd.methods.stagewise import stagewise
from stagewise_kd.networks.archived import archived
from stagewise_kd.networks.matching import matched
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.runs.student import load, open_student, save_student
from stagewise_kd.system.errors import UserError

SIZE = (64, 64)
CONVS = {  # weights of the convolutions and linear layers, and channels of the normalizations
    "medium": (
        3 * 64 * 49
        + 9 * 2 * 64 * 64
        + 9 * (64 * 128 + 128 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 512 * 512)
        + (1024 * 256 + 256 + 256 * 10 + 10)
        + 2 * (3 * 64 + 2 * 128 + 2 * 256 + 2 * 512)
    ),
    "small": (
        3 * 64 * 49
        + 9 * 2 * 64 * 64
        + 9 * (64 * 128 + 128 * 128 + 128 * 256 + 256 * 256)
        + (512 * 128 + 128 + 128 * 10 + 10)
        + 2 * (3 * 64 + 2 * 128 + 2 * 256)
    ),
    "smallest": (
        3 * 64 * 49
        + 9 * (64 * 128 + 128 * 256 + 256 * 512)
        + (1024 * 256 + 256 + 256 * 10 + 10)
        + 2 * (64 + 128 + 256 + 512)
    ),
    "plain5": (
        9 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
        + (64 + 64 + 128 + 256 + 512)
        + (4 * 512 * 512 + 512 + 512 * 10 + 10)
    ),
}
FEATURES = {
    "medium": ("stem", "layer1", "layer2", "layer3", "layer4"),
    "small": ("stem", "layer1", "layer2", "layer3"),
    "smallest": ("stem", "layer2", "layer3", "layer4"),
    "plain5": ("stem", "layer1", "layer2", "layer3", "layer4"),
}


@pytest.mark.parametrize("name", CONVS)
def test_weights_and_features_of_the_first_students(name):
    net, teacher = archived(name, 10, SIZE), resnet("resnet34", 10)
    assert sum(p.numel() for p in net.parameters()) == CONVS[name]
    for one in (net, teacher):
        one.measure((3, *SIZE))
    assert net.names == (*FEATURES[name], "head")
    assert matched(net, teacher) == tuple((part, part) for part in FEATURES[name])
    assert [net.shapes[part] for part in FEATURES[name]] == [
        teacher.shapes[part] for part in FEATURES[name]
    ]


@pytest.mark.parametrize("count", [3, 4, 5])
def test_so_many_features_are_matched(count, task):
    net, teacher = archived("plain5", 3, SIZE), resnet("resnet10", 3)
    for one in (net, teacher):
        one.measure((3, *SIZE))
    *features, last = stagewise(task, net, teacher, epochs=1, n_features=count)
    assert [stage.name for stage in features] == list(FEATURES["plain5"][:count])
    assert last.trains == (*FEATURES["plain5"][count:], "head")


@pytest.mark.parametrize("name", CONVS)
def test_a_first_student_is_built_again_from_its_folder(name, tmp_path):
    net = archived(name, 3, SIZE, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)).eval()
    save_student(tmp_path, net, {"classes": ["a", "b", "c"]})
    again, _ = open_student(tmp_path)
    image = torch.rand(2, 3, *SIZE)
    with torch.inference_mode():
        assert again(image).equal(net(image)) and again(image).shape == (2, 3)
        normalized = (image - net.mean) / net.std
        assert torch.allclose(load(tmp_path)(normalized), net(image), atol=1e-5)
    assert (again.names, again.origin) == (net.names, net.origin)


def test_a_first_student_by_its_name():
    data = {"name": "d", "mean": [0.5] * 3, "std": [0.25] * 3, "size": 64}
    asked = {"name": "smallest", "head": None, "at": ["stem", "layer3"], "arguments": {}}
    net = make_network({"data": data}, asked, 3)
    assert net.names == ("stem", "layer3", "head")
    assert net.origin and net.origin.arguments["name"] == "smallest"
    assert network_faults({"student": asked, "teacher": None}) == []
    (fault,) = network_faults({"student": asked | {"head": "linear"}, "teacher": None})
    assert "smallest has a head of its own" in fault


def test_images_too_small_for_five_halvings():
    with pytest.raises(UserError, match=r"plain5: images are 64×16.*data.size=32 or more"):
        archived("plain5", 3, (64, 16))
