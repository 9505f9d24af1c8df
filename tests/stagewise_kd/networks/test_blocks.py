import pytest
import torch
from torch import nn

from stagewise_kd.networks.blocks import Block, BlockNet, copy_block
from tests.conftest import tiny_net


class Plus(nn.Module):
    """Adds a number to the sum of what it reads, and counts its calls."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number
        self.calls = 0

    def forward(self, *features):
        self.calls += 1
        return sum(features) + self.number


@pytest.fixture
def skips() -> BlockNet:
    """A little U-Net: up reads deep and the skip shallow."""
    reads = {
        "shallow": ("image",),
        "deep": ("shallow",),
        "up": ("deep", "shallow"),
        "head": ("up",),
    }
    modules = nn.ModuleDict({name: Plus(10.0**i) for i, name in enumerate(reads)})
    blocks = [Block(name, modules[name], read) for name, read in reads.items()]
    return BlockNet(modules, blocks, [0.5], [2.0])


def calls(net: BlockNet) -> list[int]:
    return [block.module.calls for block in net.blocks.values()]


def test_features_hand_computed(skips):
    image = torch.full((1, 1, 2, 2), 2.5)  # (2.5 - 0.5) / 2 = 1
    found = skips.features({"image": image}, {"shallow", "deep", "up", "logits"})
    values = {name: feature.unique().item() for name, feature in found.items()}
    assert values == {"shallow": 2, "deep": 12, "up": 114, "logits": 1114}


def test_only_needed_blocks_run(skips):
    skips.features({"image": torch.zeros(1, 1, 2, 2)}, {"deep"})
    assert calls(skips) == [1, 1, 0, 0]


def test_starts_from_what_is_given(skips):
    one = torch.ones(1, 1, 2, 2)
    found = skips.features({"deep": one, "shallow": one}, {"logits"})
    assert calls(skips) == [0, 0, 1, 1]
    assert found["logits"].unique().item() == 1102


def test_a_skip_that_is_not_given_is_computed(skips):
    assert skips.needed({"deep", "image"}, {"up"}) == ["shallow", "up"]


def test_unknown_feature_is_named(skips):
    with pytest.raises(KeyError, match="no block 'layer9'; this network has shallow, deep, up"):
        skips.features({"image": torch.zeros(1, 1, 2, 2)}, {"layer9"})


def test_saved_weights_are_the_models(skips):
    net = tiny_net()
    assert set(net.state_dict()) == {f"model.{key}" for key in net.model.state_dict()}


def test_copy_block_copies_one_block_only():
    source, target = tiny_net(seed=1), tiny_net(seed=2)
    before = target.blocks["a"].module[0].weight.clone()
    copy_block(source, target, "head")
    assert target.blocks["head"].module[2].weight.equal(source.blocks["head"].module[2].weight)
    assert target.blocks["a"].module[0].weight.equal(before)


class Scaled(nn.Module):
    """Doubles what it reads, in place."""

    def forward(self, x):
        return x.mul_(2)


@pytest.mark.parametrize(
    "second", [nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1)), Scaled()]
)
@pytest.mark.parametrize("mode", ["train", "inference"])
def test_a_block_that_starts_in_place_leaves_the_feature_before_it(second, mode):
    torch.manual_seed(0)
    model = nn.ModuleDict({"first": nn.Conv2d(3, 4, 1), "second": second, "third": nn.Identity()})
    reads = {"first": "image", "second": "first", "third": "first"}  # third reads it afterwards
    blocks = [Block(name, model[name], (read,)) for name, read in reads.items()]
    net = BlockNet(model, blocks, [0.0], [1.0])
    image = torch.randn(2, 3, 5, 5)
    with torch.inference_mode(mode == "inference"):
        for _ in range(3):  # the first time finds it out
            given = net.features({"image": image}, {"first"})["first"]
            held = given.clone()
            found = net.features({"first": given}, {"second", "third"})
            assert given.equal(held)  # what a cache gave
            assert found["third"].equal(held)
            both = net.features({"image": image}, {"first", "second"})
            assert both["first"].equal(held)  # what a term holds
            assert both["second"].equal(found["second"])
    assert (held < 0).any()


def test_a_gradient_passes_into_what_a_block_in_place_reads():
    model = nn.ModuleDict({"first": nn.Conv2d(3, 4, 1), "second": nn.ReLU(inplace=True)})
    blocks = [
        Block("first", model["first"], ("image",)),
        Block("second", model["second"], ("first",)),
    ]
    net = BlockNet(model, blocks, [0.0], [1.0])
    net.features({"image": torch.rand(1, 3, 2, 2)}, {"second"})["second"].sum().backward()
    assert model["first"].weight.grad.abs().sum() > 0


def test_roles_tell_blocks_apart(skips):
    assert skips.of_role("encoder") == ("shallow", "deep", "up", "head")
    assert tiny_net().of_role("encoder") == ("a", "b")
    assert tiny_net().of_role("head", "encoder") == ("a", "b", "head")


def test_the_mode_reaches_the_blocks_themselves():
    net = tiny_net()
    assert all(block.module.training for block in net.train().blocks.values())
    assert not any(block.module.training for block in net.eval().blocks.values())
