import csv
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet34

from stagewise_kd.networks.cost import cost, latencies
from stagewise_kd.networks.hashes import architecture_hash
from stagewise_kd.networks.resnet import FEATURES, resnet

PUBLISHED = """model,macs_millions,params_millions
resnet10,896.197,5.171
resnet14,1359,11.072
resnet18,1824,11.441
resnet20,2056,12.622
resnet26,2752,17.712
resnet34,3679,21.55
"""
ROWS = list(csv.DictReader(PUBLISHED.splitlines()))


@pytest.mark.parametrize("row", ROWS, ids=[row["model"] for row in ROWS])
def test_published_cost(row):
    net = resnet(row["model"], classes=10)
    figures = cost(net, (3, 224, 224))
    digits = len(row["params_millions"].split(".")[1])
    assert f"{figures['params'] / 1e6:.{digits}f}" == row["params_millions"]
    assert figures["macs"] / 1e6 == pytest.approx(float(row["macs_millions"]), rel=0.01)


def test_latencies_are_measured_in_turns():
    nets = {name: resnet(name, 3) for name in ("resnet10", "resnet14")}
    order: list[str] = []
    for name, net in nets.items():
        net.register_forward_hook(lambda *_, name=name: order.append(name))
    found = latencies(nets, (3, 32, 32))
    assert order == ["resnet10", "resnet14"] * 23
    assert {name: len(figures) for name, figures in found.items()} == dict.fromkeys(nets, 20)


def test_equal_networks_have_one_hash_whatever_their_weights():
    same = resnet("resnet10", 3), resnet("resnet10", 3, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert len({architecture_hash(net) for net in same}) == 1
    others = resnet("resnet14", 3), resnet("resnet10", 4)
    assert len({architecture_hash(net) for net in (*same, *others)}) == 3
    for net in same:
        net.origin = None
    assert len({architecture_hash(net) for net in same}) == 1


def test_published_cost_is_the_reference(shared: Path):
    assert (shared / "reference" / "published_cost.csv").read_text().strip() == PUBLISHED.strip()


def test_linear_head_computes_what_torchvision_computes():
    theirs = resnet34(num_classes=5).eval().to(memory_format=torch.channels_last)
    ours = resnet("resnet34", 5, head="linear").eval()
    ours.model.load_state_dict(theirs.state_dict())
    image = torch.rand(2, 3, 64, 64)
    mean, std = ours.mean, ours.std
    with torch.inference_mode():
        assert ours(image).equal(theirs((image - mean) / std))
        assert ours(image).equal(ours.model((image - mean) / std))


def test_published_head_pools_max_before_average():
    net = resnet("resnet10", 3).eval()
    feature = torch.rand(2, 512, 2, 2)
    pooled = torch.cat([feature.amax((2, 3)), feature.mean((2, 3))], dim=1)
    with torch.inference_mode():
        found = net.features({"layer4": feature}, {"logits"})["logits"]
        assert torch.allclose(found, net.model.fc(pooled), atol=1e-6)


@pytest.mark.parametrize("name", ["resnet10", "resnet50"])
def test_feature_shapes(name):
    net = resnet(name, 4).eval()
    found = net.features({"image": torch.rand(1, 3, 64, 64)}, set(FEATURES))
    width = 4 if name == "resnet50" else 1
    expected = [(64, 32), (64 * width, 16), (128 * width, 8), (256 * width, 4), (512 * width, 2)]
    assert [(found[f].shape[1], found[f].shape[2]) for f in FEATURES] == expected
