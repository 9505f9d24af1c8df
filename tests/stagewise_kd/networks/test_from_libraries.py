"""Networks made by timm and torchvision in Python are known by what they compute."""

import pytest
import timm
import torch
from torch import nn
from torchvision.models import squeezenet1_1

from stagewise_kd.networks.from_libraries import found_origin
from stagewise_kd.networks.origin import rebuild

NORM = {"at": None, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2)}


def timm_net(**options) -> nn.Module:
    return timm.create_model("test_efficientnet", num_classes=3, **options)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (timm_net, "timm/test_efficientnet"),
        (
            lambda: timm.create_model("test_vit", num_classes=3, img_size=[32, 64]),
            "timm/test_vit",
        ),
        (lambda: squeezenet1_1(num_classes=3), "torchvision/squeezenet1_1"),
    ],
)
def test_what_is_found_builds_it_again(make, name):
    model, x = make().train(), torch.rand(2, 3, 32, 64)
    state = torch.get_rng_state()
    found = found_origin(model, x, **NORM)
    assert found.arguments["name"] == name
    assert model.training
    assert torch.get_rng_state().equal(state)
    again = rebuild(found.build, found.arguments)
    assert again.mean.flatten().tolist() == pytest.approx(NORM["mean"])
    again.model.load_state_dict(model.state_dict(), assign=True)
    with torch.no_grad():
        assert again.model.eval()(x).equal(model.eval()(x))


def changed() -> nn.Module:
    model = timm_net()
    model.bn1.act = nn.ReLU()
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: timm_net(drop_rate=0.2),  # as it learns, not as it predicts
        lambda: timm_net(global_pool="max"),
        changed,
        lambda: timm.create_model("test_efficientnet", num_classes=0),
        lambda: nn.Sequential(timm_net()),
    ],
)
def test_another_network_is_not_taken_for_it(make):
    assert found_origin(make(), torch.rand(2, 3, 32, 32), **NORM) is None


def test_a_network_of_grey_images_is_not_built_by_its_name_alone():
    grey = {"at": None, "mean": (0.5,), "std": (0.2,)}
    assert found_origin(timm_net(in_chans=1), torch.rand(2, 1, 32, 32), **grey) is None
