"""What alternatives cost, and which are chosen."""

from functools import partial
from itertools import product
from random import Random

import pytest
import torch

from stagewise_kd.sizing.alternatives import alternatives
from stagewise_kd.sizing.choice import (
    choice_of,
    choose,
    frontier,
    reached,
    smallest,
)
from stagewise_kd.sizing.costs import Costs, costs_of, macs
from stagewise_kd.sizing.search import built
from stagewise_kd.sizing.target import amount, target_of
from stagewise_kd.system.errors import UserError

from .nets import chain, images


def _random(seed):
    draw = Random(seed)
    names = ["keep", "drop", "half"]
    losses = {p: {n: n != "keep" and draw.random() for n in names} for p in "abcd"}
    blocks = {p: {"keep": 9 + draw.random(), "drop": 0, "half": draw.uniform(2, 7)} for p in "abcd"}
    whole = 5 + sum(found["keep"] for found in blocks.values())
    return Costs("macs", whole, blocks), losses


@pytest.mark.parametrize("seed", range(5))
def test_the_choice_is_that_of_brute_force(seed):
    costs, losses = _random(seed)
    every = [
        choice_of(costs, losses, dict(zip("abcd", names, strict=True)))
        for names in product(["keep", "drop", "half"], repeat=4)
    ]
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        within = [choice for choice in every if choice.cost <= share * costs.whole]
        best = min(within, key=lambda choice: choice.loss)
        assert choose(costs, losses, share * costs.whole) == best


def test_a_frontier_has_each_choice_once_and_none_that_nothing_reaches():
    costs, losses = _random(0)
    found = frontier(costs, losses, [0.01, 0.3, 0.3, 0.6, 1.0])
    assert len(found) == 3
    assert [choice.loss for choice in found] == sorted((c.loss for c in found), reverse=True)
    assert found[-1].loss == 0


@pytest.mark.parametrize("kind", ["macs", "params"])
def test_costs_of_the_parts_add_up_to_that_of_the_network_they_make(kind):
    net, image = chain(), images(1)
    _, space = alternatives(net, images(2))
    costs = costs_of(kind, net, space, image)
    chosen = {"blocks.0": "drop", "blocks.1": "width 0.25", "blocks.2": "keep"}
    smaller = built(
        net, space, choice_of(costs, {p: {n: 0} for p, n in chosen.items()}, chosen), costs
    )
    if kind == "macs":
        assert costs.total(chosen) == macs(partial(smaller.model, image))
    else:
        assert costs.total(chosen) == sum(p.numel() for p in smaller.model.parameters())


def test_latencies_add_up_and_blocks_left_out_cost_next_to_nothing():
    net = chain()
    _, space = alternatives(net, images(2))
    costs = costs_of("latency", net, space, images(1, 64))
    assert costs.total(dict.fromkeys(costs.blocks, "keep")) == pytest.approx(costs.whole)
    assert all(found["drop"] < 0.3 * found["keep"] for found in costs.blocks.values())
    assert not any("forward" in vars(module) for module in net.modules())


def test_a_target_that_nothing_reaches_says_the_smallest():
    costs, losses = _random(0)
    least = smallest(costs) / costs.whole
    with pytest.raises(
        UserError, match=r"macs=0.01: nothing is that small; .*: give macs=0\.1\d+ or"
    ):
        reached(costs, losses, 0.01 * costs.whole, "macs=0.01")
    assert reached(costs, losses, (least + 1e-3) * costs.whole, "").cost == pytest.approx(5)


def test_amounts():
    assert amount("macs", 0.5, 200.0) == 100
    assert amount("macs", "300M", 1.0) == 3e8
    assert amount("params", "5m", 1.0) == 5e6
    assert amount("latency", "8ms", 1.0) == 8
    assert amount("latency", "0.25", 4.0) == 1


@pytest.mark.parametrize("given", [{}, {"macs": 0.5, "params": 0.5}])
def test_there_is_one_target(given):
    told = "macs=0.5, params=0.5" if given else "no target"
    with pytest.raises(UserError, match=f"{told}: give one of macs, params and latency"):
        target_of(given)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("macs", 1.5),
        ("macs", 0),
        ("params", -1),
        ("macs", "5ms"),
        ("latency", "fast"),
        ("params", ""),
    ],
)
def test_targets_that_are_none(kind, value):
    with pytest.raises(UserError, match=f"{kind}={value}: give a share of the network's, above 0"):
        target_of({kind: value})


def test_costs_leave_modes_as_they_are():
    net = chain().train()
    costs_of("params", net, alternatives(net, images(2))[1], images(1))
    assert net.training
    assert torch.is_grad_enabled()
