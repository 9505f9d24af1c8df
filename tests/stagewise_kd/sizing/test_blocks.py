"""Which blocks a network has, and what of them can be fewer."""

from copy import deepcopy

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models import mobilenet_v3_small
from torchvision.ops import SqueezeExcitation

from stagewise_kd import shrink
from stagewise_kd.networks.cutting import cut
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.networks.shrunk import apply
from stagewise_kd.networks.tracer import Skip
from stagewise_kd.sizing.alternatives import alternatives
from stagewise_kd.sizing.calls import Call
from stagewise_kd.sizing.finding import find_blocks
from stagewise_kd.sizing.hidden import hidden, narrower, weight
from stagewise_kd.system.errors import UserError

from .nets import Residual, chain, images


def _call(block, x):
    with torch.no_grad():
        return Call((x,), {}, block.eval()(x))


def test_blocks_of_a_resnet_are_its_residual_blocks_those_that_change_shape_too():
    found = find_blocks(resnet("resnet18", 10).model.eval(), images(2, 32), None)
    assert [*found] == [f"layer{stage}.{place}" for stage in range(1, 5) for place in range(2)]


def test_squeeze_and_excitation_is_no_block():
    found = find_blocks(mobilenet_v3_small().eval(), images(2, 32), None)
    assert [*found] == [f"features.{number}" for number in range(1, 12)]


def test_blocks_that_are_attributes_are_found_by_what_they_compute():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.one, self.two = nn.Conv2d(3, 8, 1), Residual(), Residual()
            self.pair = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))

        def forward(self, x):
            return self.pair(self.two(self.one(self.stem(x)))).mean((2, 3))

    assert [*find_blocks(Named().eval(), images(2), None)] == ["one", "two"]


def test_a_block_that_runs_twice_is_none():
    net = chain()
    twice = nn.Sequential(net.stem, net.blocks[0], net.blocks[0], net.blocks[1])
    assert [*find_blocks(twice.eval(), images(2), None)] == ["3"]


def test_hidden_channels_of_an_inverted_residual_hang_together_with_its_gates():
    net = timm.create_model("mobilenetv3_small_050", num_classes=4).eval()
    calls = find_blocks(net, images(2, 32), None)
    inner = max(hidden(net.get_submodule("blocks.2.1"), calls["blocks.2.1"]), key=lambda g: g.count)
    assert {*inner.makes} == {"conv_pw", "se.conv_expand"}
    assert {*inner.passes} == {"bn1", "conv_dw", "bn2"}
    assert {*inner.reads} == {"se.conv_reduce", "conv_pwl"}


def test_of_a_transformer_block_the_mlp_is_narrowed_and_attention_is_not():
    net = VisionTransformer(img_size=8, patch_size=4, embed_dim=16, depth=2, num_heads=2).eval()
    calls = find_blocks(net, images(2, 8), None)
    assert [*calls] == ["blocks.0", "blocks.1"]
    found = hidden(net.blocks[0], calls["blocks.0"])
    assert [(group.makes, group.reads) for group in found] == [(("mlp.fc1",), ("mlp.fc2",))]


def test_a_transformer_without_a_block_can_be_cut_though_blocks_are_told_more():
    options = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 4, "num_heads": 2}
    net = VisionTransformer(**options).eval()
    apply(net, [("blocks.2", "drop")])
    assert "blocks.2" not in find_blocks(net, images(2, 8), None)
    x = images(2, 8)
    assert cut(net, x)(x).equal(net(x))


def test_decoder_blocks_of_a_unet_are_narrowed_between_their_convolutions():
    net = smp.Unet("resnet18", encoder_weights=None, classes=2, decoder_attention_type="scse")
    net.eval()
    found = {c.path: c for c in alternatives(net, images(2, 32))[1]}
    assert [p for p in found if p.startswith("decoder")] == [
        f"decoder.blocks.{n}" for n in range(5)
    ]
    assert "drop" not in found["decoder.blocks.0"].alternatives
    half = found["decoder.blocks.0"].alternatives["width 0.5"]
    assert half.change["conv1.0"][1] == half.change["conv2.0"][0] == 128


class Shared(nn.Module):
    """Hidden channels to which what comes in is added cannot be fewer."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.b(self.a(x) + x)


class Flat(nn.Module):
    """Hidden channels that are counted on cannot be fewer."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.b(self.a(x).view(-1, 2, 4).flatten(1))


def _between(layer, width=8):
    return nn.Sequential(nn.Conv2d(8, width, 1), layer, nn.Conv2d(width, 8, 1))


@pytest.mark.parametrize(
    ("block", "x"),
    [
        (Shared(), torch.randn(2, 8, 4, 4)),
        (Flat(), torch.randn(2, 8)),
        (_between(nn.GroupNorm(1, 8)), torch.randn(2, 8, 4, 4)),
        (_between(nn.ChannelShuffle(2)), torch.randn(2, 8, 4, 4)),
    ],
)
def test_channels_that_something_else_depends_on_stay(block, x):
    assert hidden(block, _call(block, x)) == []


@pytest.mark.parametrize(
    ("layer", "unit", "left"),
    [
        (nn.Conv2d(16, 16, 3, padding=1, groups=4), 4, {"groups": 2, "in_channels": 8}),
        (nn.Conv2d(16, 16, 1, groups=16), 1, {"groups": 8, "out_channels": 8}),
        (nn.GroupNorm(4, 16), 4, {"num_groups": 2, "num_channels": 8}),
        (nn.InstanceNorm2d(16, affine=True), 1, {"num_features": 8}),
        (nn.PReLU(16), 1, {"num_parameters": 8}),
        (nn.PReLU(), 1, {"num_parameters": 1}),
    ],
)
def test_layers_that_keep_channels_apart_get_fewer_with_them(layer, unit, left):
    torch.manual_seed(0)
    block, x = _between(layer, 16), torch.randn(2, 8, 4, 4)
    (group,) = hidden(block, _call(block, x))
    assert (group.makes, group.reads, group.unit) == (("0",), ("2",), unit)
    half, widths = narrower(block, [group], 0.5)
    assert {name: getattr(half[1], name) for name in left} == left
    assert half(x).shape == x.shape
    again = apply(nn.Sequential(deepcopy(block)), [("0", widths)])  # by its shapes alone
    again[0].load_state_dict(half.state_dict())
    assert again(x).equal(half(x))


def test_of_four_groups_one_can_be_left():
    block = _between(nn.Conv2d(8, 8, 1, groups=4))
    groups = hidden(block, _call(block, torch.randn(2, 8, 4, 4)))
    assert narrower(block, groups, 0.25)[0][1].weight.shape == (2, 2, 1, 1)


def test_a_block_most_of_which_lies_outside_of_its_residual_part():
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = Residual(inner=1)
            self.up, self.down = nn.Conv2d(8, 64, 3, padding=1), nn.Conv2d(64, 8, 3, padding=1)

        def forward(self, x):
            x = self.token(x)
            return x + self.down(self.up(x).relu())

    net = nn.Sequential(nn.Conv2d(3, 8, 1), Mixer(), Residual()).eval()
    assert [*find_blocks(net, images(2), None)] == ["1", "2"]


def test_layers_in_a_branch_are_no_blocks():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 1)

        def forward(self, x):
            return self.conv(x).relu()

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = Layer(), nn.Sequential(Layer(), Layer())

        def forward(self, x):
            return torch.maximum(self.one(x), self.two(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.one, self.two = nn.Conv2d(3, 8, 1), Branches(), Branches()

        def forward(self, x):
            return self.two(self.one(self.stem(x)))

    assert [*find_blocks(Net().eval(), images(2), None)] == ["one", "two"]


def test_a_train_of_ones_own_may_give_nothing_back():
    class Silent(Residual):
        def train(self, mode=True):
            super().train(mode)

    net = nn.Sequential(nn.Conv2d(3, 8, 1), Silent(), Silent())
    net.eval()
    _, space = alternatives(net, images(2))
    assert [choices.path for choices in space] == ["1", "2"]


def test_gates_inside_a_block_are_no_leak():
    block = nn.Sequential(nn.Conv2d(4, 8, 1), SqueezeExcitation(8, 2), nn.Conv2d(8, 4, 1))
    found = hidden(block, _call(block, torch.randn(2, 4, 3, 3)))
    assert sorted(group.count for group in found) == [2, 8]


def test_a_narrower_block_computes_what_the_block_would_without_the_light_channels():
    block, x = chain().blocks[0], torch.randn(2, 8, 5, 5)
    groups = hidden(block, _call(block, x))
    half, widths = narrower(block, groups, 0.5)
    kept = weight(block, groups[0]).argsort(descending=True)[:6]
    expected = chain().blocks[0]
    gone = [number for number in range(12) if number not in kept]
    with torch.no_grad():
        expected.conv2.weight[:, gone] = 0
        assert half(x).allclose(expected(x), atol=1e-6)
    assert widths == {"conv1": [8, 6], "bn": [6, 6], "conv2": [6, 8]}
    assert weight(block, groups[0])[kept].min() >= weight(block, groups[0])[gone].max()


def test_alternatives_of_the_users_own():
    def own(path, block):
        return {"thin": Residual(inner=1)} if path == "blocks.1" else {}

    found = {c.path: [*c.alternatives] for c in alternatives(chain(), images(2), own=own)[1]}
    usual = ["keep", "drop", "width 0.75", "width 0.5", "width 0.25"]
    assert found == {"blocks.0": usual, "blocks.1": [*usual, "thin"], "blocks.2": usual}
    with pytest.raises(
        UserError, match=r"blocks.0: alternative 'wide' gives \(2, 9, 8, 8\), the b"
    ):
        alternatives(chain(), images(2), own=lambda path, block: {"wide": nn.Conv2d(8, 9, 1)})
    with pytest.raises(UserError, match=r"blocks.0: alternative 'odd' cannot run"):
        alternatives(chain(), images(2), own=lambda path, block: {"odd": nn.Conv2d(7, 8, 1)})


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (["blocks.9"], "at: Chain has no module blocks.9"),
        ("blocks.0", r"at='blocks.0': give a list of names, such as \['blocks.0'\]"),
        (["blocks", "blocks.1"], "at: blocks.1: lies inside another one"),
        (["blocks.0.conv1", "blocks.1.unused"], "Chain has no module blocks.1.unused"),
    ],
)
def test_names_of_no_blocks(at, said):
    with pytest.raises(UserError, match=said):
        alternatives(chain(), images(2), at)


def test_a_network_without_a_block():
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(UserError, match="Sequential: no block that can be left out or narrowed"):
        alternatives(plain, images(2))


def test_a_block_may_be_a_single_convolution():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 1, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    found = shrink(net, torch.rand(4, 3, 8, 8), macs=0.6, at=["2"], repair_steps=0)
    assert type(found[2]) is Skip
    assert "forward" not in vars(net[2])
