"""How much an alternative loses, and its repair."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from stagewise_kd.networks.hashes import weights_hash
from stagewise_kd.sizing import scores as scoring
from stagewise_kd.sizing.alternatives import alternatives, on_device
from stagewise_kd.sizing.calls import Call, joined
from stagewise_kd.sizing.choice import choice_of
from stagewise_kd.sizing.costs import costs_of
from stagewise_kd.sizing.repairing import features, repaired
from stagewise_kd.sizing.scores import batch_size, divergence, score
from stagewise_kd.sizing.search import built, repair, scored

from .nets import chain, images


def test_divergence_of_two_classes_by_hand():
    target, logits = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]])
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert divergence(logits, target) == pytest.approx(expected)
    one = divergence(torch.tensor([[-math.log(3)]]), torch.tensor([[0.0]]))  # of one logit
    assert one == pytest.approx(expected)
    masks = divergence(*(x.view(1, 2, 1, 1).expand(2, 2, 3, 3) for x in (logits, target)))
    assert masks == pytest.approx(expected)


def test_a_score_is_what_the_alternative_does_alone_in_the_network():
    net, x = chain(), images(7)
    before = weights_hash(net)
    found = score(net, alternatives(net, x[:2])[1], x)
    without = deepcopy(net)
    without.blocks[1] = nn.Identity()
    with torch.no_grad():
        assert found.kl["blocks.1"]["drop"] == pytest.approx(float(divergence(without(x), net(x))))
        feature = net.blocks[:2](net.stem(x))
        off = (net.blocks[0](net.stem(x)) - feature).square().sum() / feature.square().sum()
    assert found.error["blocks.1"]["drop"] == pytest.approx(float(off))
    assert found.kl["blocks.1"]["keep"] == found.error["blocks.1"]["keep"] == 0
    assert found.kl["blocks.1"]["width 0.75"] < found.kl["blocks.1"]["width 0.25"]
    assert weights_hash(net) == before


def test_scores_go_on_where_they_were_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "BATCH", 3)
    net, x = chain(), images(7)
    _, space = alternatives(net, x[:2])
    straight, seen = score(net, space, x), []

    def stop(done, of):
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(net, space, x, tmp_path / "kept.json", stop)
    resumed = score(net, space, x, tmp_path / "kept.json", lambda done, of: seen.append(done))
    assert seen == [6, 7]
    assert resumed == straight


def test_scores_belong_to_the_weights_and_the_images(tmp_path):
    net, x = chain(depth=1), images(4)
    for model, given in ((net, x), (net, x), (net, x + 1), (chain(depth=1).requires_grad_(), x)):
        scored(model, alternatives(model, given[:2])[1], given, out=tmp_path)
    assert len([*tmp_path.glob("scores-*.json")]) == 2
    with torch.no_grad():
        net.head.weight.mul_(2)
    scored(net, alternatives(net, x[:2])[1], x, out=tmp_path)
    assert len([*tmp_path.glob("scores-*.json")]) == 3


def test_a_repaired_block_comes_nearer_and_keeps_its_statistics():
    net, x = chain(), images(16)
    narrow = alternatives(net, x[:2])[1][1].alternatives["width 0.5"].module
    call = joined(features(net, "blocks.1", x))
    better = repaired(narrow, call, 30, seed=0)
    with torch.no_grad():
        (given,), wanted = call.args, call.output
        before, after = ((block(given) - wanted).square().mean() for block in (narrow, better))
    assert after < 0.7 * before
    assert better.bn.running_mean.equal(narrow.bn.running_mean)
    assert weights_hash(repaired(narrow, call, 0, seed=0)) == weights_hash(narrow)
    assert weights_hash(repaired(narrow, call, 30, seed=0)) == weights_hash(better)


class Remembering(nn.Module):
    """Keeps what it makes of its parameter until its mode is set, as timm's LeViT does."""

    def __init__(self):
        super().__init__()
        self.bias, self.kept = nn.Parameter(torch.zeros(2)), None

    def train(self, mode=True):
        super().train(mode)
        self.kept = None

    def forward(self, x):
        self.kept = 2 * self.bias if self.kept is None else self.kept
        return x + self.kept


def test_a_block_is_repaired_that_keeps_something_in_eval_mode():
    x = torch.randn(8, 2)
    better = repaired(Remembering(), Call((x,), {}, x + 1), 40, seed=0, lr=0.1)
    with torch.no_grad():
        assert better(x).equal(x + 2 * better.bias)
    assert torch.allclose(better.bias, torch.full((2,), 0.5), atol=0.05)


def test_a_repair_makes_up_for_blocks_that_are_left_out():
    net, x = chain(), images(32)
    before = weights_hash(net)
    _, space = alternatives(net, x[:2])
    costs = costs_of("params", net, space, x[:1])
    chosen = {"blocks.0": "keep", "blocks.1": "drop", "blocks.2": "width 0.5"}
    losses = {path: {name: 0.0} for path, name in chosen.items()}
    smaller = built(net, space, choice_of(costs, losses, chosen), costs)
    with torch.no_grad():
        first = divergence(smaller.model(x), net(x))
        repair(net, smaller, x, 40, seed=0)
        assert divergence(smaller.model(x), net(x)) < 0.5 * first
        assert weights_hash(net) == before
        # the block before the gap gives what came behind it, as nearly as it can
        given = net.stem(x)
        wanted = net.blocks[:2](given)
        assert (smaller.model.blocks[0](given) - wanted).norm() < (
            net.blocks[0](given) - wanted
        ).norm()


def test_calls_with_arguments_of_every_kind_are_joined():
    block = nn.Bilinear(2, 3, 2)
    x, y = torch.randn(6, 2), torch.randn(6, 3)
    calls = [
        Call((x[:4],), {"input2": y[:4]}, y[:4, :2]),
        Call((x[4:],), {"input2": y[4:]}, y[4:, :2]),
    ]
    with torch.no_grad():
        before = (block(x, y) - y[:, :2]).square().mean()
        after = (repaired(block, joined(calls), 20, 0, lr=0.1)(x, y) - y[:, :2]).square().mean()
    assert after < before


def test_elsewhere_there_are_copies_of_all():
    net = chain()
    model, space = alternatives(net, images(2))
    copy, there = on_device(model, space, torch.device("meta"))
    tensors = [*copy.parameters(), *(t for c in there for t in [*c.call.tensors, c.call.output])]
    for choices in there:
        tensors += [p for one in choices.alternatives.values() for p in one.module.parameters()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert {p.device.type for p in net.parameters()} == {"cpu"}
    assert [c.alternatives.keys() for c in there] == [c.alternatives.keys() for c in space]


def test_large_images_are_fewer_at_a_time():
    sizes = [batch_size(torch.empty(9, 3, side, side, device="meta")) for side in (32, 448, 4096)]
    assert sizes == [50, 12, 1]


def test_a_dead_block_is_repaired_to_give_nothing():
    torch.manual_seed(0)
    x = torch.randn(8, 4)
    better = repaired(nn.Linear(4, 4), Call((x,), {}, torch.zeros(8, 4)), 200, seed=0, lr=0.05)
    assert better(x).abs().max() < 0.05
