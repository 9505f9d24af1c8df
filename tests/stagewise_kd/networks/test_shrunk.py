"""Networks with changed blocks, built again from plain values."""

import json
from copy import deepcopy

import pytest
import torch

from stagewise_kd.networks.cutting import cut
from stagewise_kd.networks.matching import matched
from stagewise_kd.networks.origin import rebuild
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.networks.shrunk import BUILD, apply, cut_again, plain, shrunk
from stagewise_kd.sizing.alternatives import alternatives
from stagewise_kd.sizing.choice import choice_of
from stagewise_kd.sizing.costs import costs_of
from stagewise_kd.sizing.search import built
from stagewise_kd.system.errors import UserError
from tests.stagewise_kd.sizing.nets import chain, images


def test_a_network_is_built_again_from_its_recipe():
    net, image = resnet("resnet14", 3).eval(), torch.rand(2, 3, 32, 32)
    _, space = alternatives(net.model, image)
    chosen = {c.path: "keep" for c in space} | {"layer4.1": "drop", "layer3.0": "width 0.25"}
    costs = costs_of("params", net.model, space, image[:1])
    choice = choice_of(costs, {c.path: dict.fromkeys(c.alternatives, 0.0) for c in space}, chosen)
    smaller = built(net.model, space, choice, costs)
    arguments = {
        "build": net.origin.build,
        "arguments": net.origin.arguments,
        "recipe": plain(smaller.recipe),
        "shape": [3, 32, 32],
    }
    again = rebuild(BUILD, json.loads(json.dumps(arguments))).eval()
    again.model.load_state_dict(smaller.model.state_dict())
    assert again.names == net.names
    with torch.no_grad():
        expected = smaller.model((image - net.mean) / net.std)
        assert again(image).allclose(expected, atol=1e-6)
    assert rebuild(again.origin.build, again.origin.arguments).origin == again.origin


def test_a_shrunk_network_is_cut_where_the_whole_one_was():
    example = images(2)
    whole = cut(chain(depth=5), example, at=["stem", "blocks.0", "blocks.2", "blocks.4"])
    smaller = apply(deepcopy(whole.model), [("blocks.1", "drop"), ("blocks.3", "drop")])
    net = cut_again(smaller, whole, (3, 8, 8), None)
    assert net.names == whole.names
    # of the last block nothing is left: the one before learns what that one gives
    net = cut_again(apply(smaller, [("blocks.4", "drop")]), whole, (3, 8, 8), None)
    assert net.names == ("stem", "blocks.0", "blocks.4", "head")
    for one in (net, whole):
        one.measure((3, 8, 8))
    assert dict(matched(net, whole))["blocks.4"] == "blocks.4"


def test_a_recipe_for_another_network():
    with pytest.raises(UserError, match=r"recipe: ResNet has no block 'layer3.7'"):
        apply(resnet("resnet10", 3).model, [("layer3.7", {"conv1": [256, 16]})])
    with pytest.raises(UserError, match=r"recipe: ResNet has no block 'layer3.0'"):
        shrunk(
            "stagewise_kd.networks.resnet.resnet",
            {"name": "resnet10", "classes": 3},
            [("layer3.0", {"conv9": [256, 16]})],
            [3, 32, 32],
        )
