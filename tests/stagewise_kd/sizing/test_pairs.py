"""Neighbouring layers of a plain chain, gathered into pairs."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import stagewise_kd as skd
from stagewise_kd.networks.cost import macs
from stagewise_kd.sizing.alternatives import alternatives
from stagewise_kd.sizing.costs import costs_of
from stagewise_kd.sizing.pairs import gathered
from stagewise_kd.system.errors import UserError

from .nets import Residual, images


class Plain(nn.Module):
    """Convolutions whose activations are functions, a skip around the third, a head of two."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.conv3, self.conv4 = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.pool, self.fc1, self.fc2 = nn.MaxPool2d(2), nn.Linear(256, 32), nn.Linear(32, 4)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x), inplace=True))
        x = F.relu(self.norm(self.conv2(x)))
        x = x + self.conv4(F.relu(self.conv3(x)))
        return self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))


def plain():
    torch.manual_seed(0)
    return Plain().eval()


def test_a_chain_is_gathered_in_pairs_that_compute_the_same_with_the_same_weights():
    net, x = plain(), images()
    seen, names = gathered(net, x)
    assert names == ["conv1-conv2", "conv3-conv4", "fc1-fc2"]
    with torch.no_grad():
        assert seen(x).equal(net(x))
    assert {*map(id, seen.parameters())} == {*map(id, net.parameters())}


def test_of_pairs_that_overlap_those_of_most_multiply_adds_are_taken():
    widths = [3, 4, 16, 16, 4]
    layers = [nn.Conv2d(a, b, 1) for a, b in pairwise(widths)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    assert gathered(net, images(2))[1] == ["0-1", "2-3"]  # 12 + 64 and 256 + 64, not 64 + 256
    wider = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 16, 1), nn.Conv2d(16, 16, 1)).eval()
    assert gathered(wider, images(2))[1] == ["1-2"]


def test_layers_that_run_twice_stay():
    once = nn.Conv2d(8, 8, 1)
    twice = nn.Sequential(nn.Conv2d(3, 8, 1), once, nn.ReLU(), once).eval()
    assert gathered(twice, images(2)) == (twice, [])


def test_a_network_that_cannot_be_traced_has_no_pairs():
    class Loop(nn.Sequential):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    net = Loop(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)).eval()
    assert gathered(net, images(2)) == (net, [])
    with pytest.raises(UserError, match="Loop: no block that can be left out or narrowed"):
        alternatives(net, images(2))


def test_a_network_with_blocks_has_no_pairs():
    layers = nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), Residual()
    net = nn.Sequential(*layers).eval()
    seen, space = alternatives(net, images(2))
    assert (seen, [choices.path for choices in space]) == (net, ["3"])


def test_costs_of_pairs_add_up():
    layers = nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)
    seen, space = alternatives(nn.Sequential(*layers).eval(), images(2))
    assert [choices.path for choices in space] == ["0-2"]
    costs = costs_of("macs", seen, space, images(1))
    assert costs.whole == 64 * (3 * 8 + 8 * 8 + 8 * 2)
    assert costs.blocks["0-2"] == {
        "keep": 64 * (3 * 8 + 8 * 8),
        "width 0.75": 64 * (3 * 6 + 6 * 8),
        "width 0.5": 64 * (3 * 4 + 4 * 8),
        "width 0.25": 64 * (3 * 2 + 2 * 8),
    }


def test_a_chain_is_made_smaller_and_repaired_and_keeps_its_class():
    net, x = plain(), images(16)
    found = skd.shrink(net, x, macs=0.5, repair_steps=0)
    better = skd.shrink(net, x, macs=0.5, repair_steps=20)
    assert type(found) is Plain
    assert found.conv1.out_channels == found.conv2.in_channels < 8
    assert {*found.state_dict()} == {*net.state_dict()}
    with torch.no_grad():
        assert F.mse_loss(better(x), net(x)) < F.mse_loss(found(x), net(x))
    assert better.conv1.weight.shape == found.conv1.weight.shape
    assert not better.conv1.weight.equal(found.conv1.weight)


def test_a_pair_that_gives_what_it_takes_is_narrowed_as_its_cost_says():
    net, x = plain(), images(4)
    _, space = alternatives(net, x[:2])
    assert [*space[1].alternatives] == ["keep", "width 0.75", "width 0.5", "width 0.25"]
    found = skd.shrink(net, x, macs=0.35, repair_steps=0)
    assert found.conv3.out_channels < 16
    assert macs(partial(found, x[:1])) <= 0.35 * macs(partial(net, x[:1]))
