from copy import deepcopy

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import mobilenet_v3_small, resnet18

from stagewise_kd.networks.blocks import copy_block
from stagewise_kd.networks.cutting import cut
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.system.errors import UserError

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Own(nn.Module):
    """A skip connection, an in-place ReLU at the start of a block, dropout by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8))
        self.body = nn.Conv2d(8, 8, 3, 1, 1)
        self.last = nn.Conv2d(8, 16, 3, 2, 1)
        self.fc = nn.Linear(16, 5)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x, option: str | None = None):
        x = F.relu(self.stem(x), inplace=True)
        x = x + self.scale * self.body(x)
        x = self.last(F.dropout(x, 0.5, self.training))
        return self.fc(x.mean((2, 3)))


def test_blocks_are_made_of_the_models_own_submodules():
    torch.manual_seed(0)
    model = Own()
    net = cut(model, IMAGES, ["last", "stem"])
    assert net.names == ("stem", "last", "head")
    assert [block.role for block in net.blocks.values()] == ["encoder", "encoder", "head"]
    assert net.blocks["stem"].module.get_submodule("stem.0") is model.stem[0]
    assert {*net.model.state_dict()} == {*Own().state_dict()}
    features = net.eval().features({"image": IMAGES}, {"stem", "logits"})
    assert features["stem"].equal(model.stem(IMAGES))
    assert (features["stem"] < 0).any()  # the next block's ReLU has not touched it
    assert features["logits"].equal(model(IMAGES))


def test_what_a_model_does_in_training_its_blocks_do_in_training():
    torch.manual_seed(0)
    net = cut(Own(), IMAGES, ["stem", "last"])
    feature = net.eval().features({"image": IMAGES}, {"stem"})["stem"]

    def last() -> torch.Tensor:
        return net.features({"stem": feature}, {"last"})["last"]

    assert last().equal(last())
    net.blocks["last"].module.train()
    assert not last().equal(last())  # dropout


def test_a_copy_of_a_cut_network_trains_its_own_weights():
    net = cut(Own(), IMAGES, ["stem", "last"])
    copy = deepcopy(net)
    with torch.no_grad():
        copy.model.stem[0].weight.zero_()
        copy.model.stem[0].bias.fill_(1)
    assert copy.blocks["stem"].module.get_submodule("stem.0") is copy.model.stem[0]
    assert copy.model.stem[0].weight.eq(0).all()
    assert not net.model.stem[0].weight.eq(0).any()


def test_torchvisions_resnet_is_cut_as_the_published_one():
    net = cut(resnet18(num_classes=4), IMAGES)
    assert net.names == resnet("resnet18", 4).names
    assert (net.origin.arguments["name"], net.origin.arguments["head"]) == ("resnet18", "linear")
    named = cut(net.model, IMAGES, ["relu", "layer1", "layer2", "layer3", "layer4"]).eval()
    ours = net.eval().features({"image": IMAGES}, {*net.names})
    theirs = named.features({"image": IMAGES}, {*named.names})
    for one, other in zip(net.names, named.names, strict=True):
        assert ours[one].equal(theirs[other])


def test_a_resnet_of_another_head_is_known_but_has_no_origin():
    model = resnet18(num_classes=4)
    model.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 4))
    assert cut(model, IMAGES).origin is None


def test_unet_of_smp():
    net = cut(smp.Unet("resnet18", encoder_weights=None, classes=3), IMAGES)
    assert net.of_role("decoder") == tuple(f"decoder{n}" for n in range(5))
    assert net.of_role("encoder") == ("stem", "layer1", "layer2", "layer3", "layer4")


def test_another_network_at_names():
    net = cut(mobilenet_v3_small(num_classes=4), IMAGES, ["features.3", "features"]).eval()
    assert net.names == ("features.3", "features", "head")
    assert net(IMAGES).equal(net.model(IMAGES))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        if x.mean() > 0:
            x = -x
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "at", "words"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)),
            None,
            ["has no module", "at=[…] of 0, 1"],
        ),
        (Own(), ["nope"], ["Own has no module nope; it can be cut at stem, last, fc"]),
        (Own(), ["body"], ["behind body more than one value is still in use", "stem, last, fc"]),
        (Own(), ["stem", "stem.1"], ["with an end of their own"]),
        (Own(), [], ["at=[]: give a list of names of modules"]),
        (
            Branching(),
            ["fc"],
            ["Branching cannot be traced", "if x.mean() > 0:", "test_cutting.py"],
        ),
    ],
)
def test_what_cannot_be_cut(model, at, words):
    with pytest.raises(UserError) as error:
        cut(model, IMAGES, at)
    for word in words:
        assert word in str(error.value)


class Optional(Own):
    """Can be told more than its images."""

    def forward(self, x, mask=None, features=False, *more, scale=1.0, **rest):
        if mask is not None:
            x = x * mask
        if features:
            return x
        return super().forward(x) * scale


def test_a_network_is_cut_as_it_is_called_with_images_alone():
    model = Optional()
    net = cut(model, IMAGES, ["stem", "last"])
    assert net.names == ("stem", "last", "head")
    with torch.no_grad():
        assert net.eval()(IMAGES).equal(model.eval()(IMAGES))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.register_buffer("scale", torch.full((4, 1, 1), 2.0))

    def forward(self, x):
        return self.b(F.dropout(self.a(x) * self.scale, 0.5, self.training)).mean((2, 3))


def test_buffers_move_with_the_model():
    net = cut(Scaled(), IMAGES, ["a"]).to(torch.float64)
    assert net(IMAGES.double()).dtype == torch.float64
    assert net.train()(IMAGES.double()).dtype == torch.float64
    net.model.scale.fill_(0)  # the block reads the model's own
    assert net.eval()(IMAGES.double()).equal(net.model(IMAGES.double()))


def test_the_modes_of_the_model_stay_as_they_are():
    model = Own().train()
    model.stem[1].eval()
    modes = [module.training for module in model.modules()]
    cut(model, IMAGES, ["stem"])
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(UserError, match="cannot be traced"):
        cut((failing := Branching().train()), IMAGES, ["fc"])
    assert failing.training


def test_a_module_of_two_blocks_is_refused():
    class Shared(Own):
        def forward(self, x):
            return self.fc(self.last(self.body(self.body(self.stem(x)))).mean((2, 3)))

    with pytest.raises(UserError, match="'body' and 'head' share parameters"):
        cut(Shared(), IMAGES, ["stem", "body"])


def test_a_head_that_is_no_end_keeps_its_name():
    model = nn.Sequential()
    model.stem, model.head, model.tail = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    assert cut(model, IMAGES, ["stem", "head"]).names == ("stem", "head", "rest")


def test_heads_of_other_traces_are_copied():
    class Plain(Own):
        def forward(self, x):
            return self.fc(self.last(self.body(self.stem(x))).mean((2, 3)))

    class Dropping(Own):
        def forward(self, x):
            x = self.last(self.body(self.stem(x))).mean((2, 3))
            return self.fc(F.dropout(x, 0.5, self.training))

    teacher, student = (cut(kind(), IMAGES, ["stem", "last"]) for kind in (Dropping, Plain))
    copy_block(teacher, student, "head")
    assert student.model.fc.weight.equal(teacher.model.fc.weight)


class Deciding(nn.Module):
    """Decides by shapes, as padding and assertions do, in the middle of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8))
        self.last, self.fc = nn.Conv2d(8, 16, 3, 2, 1), nn.Linear(16, 5)

    def forward(self, x):
        assert x.shape[2] % 4 == 0, "give multiples of 4"
        x = F.dropout(self.stem(x), 0.5, self.training)
        if x.shape[-1] != 12:
            x = F.interpolate(x, size=(12, 12))
        for side in x.shape[2:]:
            assert side > 4
        return self.fc(self.last(x).mean((2, 3)))


def test_what_a_model_decides_by_shapes_is_decided_as_for_the_example():
    torch.manual_seed(0)
    model = Deciding().train()
    before, state = deepcopy(model.state_dict()), torch.get_rng_state()
    net = cut(model, IMAGES, ["stem", "last"])
    assert torch.get_rng_state().equal(state) and model.training
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert net.eval().features({"image": IMAGES}, {"last"})["last"].shape[2:] == (6, 6)
    assert net(IMAGES).equal(model.eval()(IMAGES))


class Unpacking(nn.Module):
    """Unpacks shapes, counts with sides, and notes one, as networks of transformers do."""

    places = None

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x + self.inner(x).view(*x.shape[:-1], -1, 4).flatten(2)
        self.places = (x.shape[1],)
        return self.fc(x[:, : int(self.places[0] / 2)].mean(1))


def test_shapes_that_are_unpacked_and_counted_with():
    torch.manual_seed(0)
    model = Unpacking().eval()
    net = cut(model, IMAGES, ["stem"])
    images = torch.rand(5, 3, 32, 32)
    assert net(images).equal(model(images))
    assert model.places == (64,)  # as it runs, nothing of a trace
    assert deepcopy(net)(images).equal(model(images))


class Asking(Own):
    """Asks of what type a feature is, as torch.jit lets it."""

    def asks(self, x):
        return torch.jit.isinstance(x, torch.Tensor)

    def forward(self, x):
        x = self.stem(x)
        x = self.body(x) if self.asks(x) else x[:, :4]
        return self.fc(self.last(x).mean((2, 3)))


def test_a_type_that_is_asked_for_as_torch_jit_does():
    model = Asking().eval()
    assert cut(model, IMAGES, ["stem", "last"])(IMAGES).equal(model(IMAGES))


def test_a_network_that_does_something_else_for_a_traced_value_is_told():
    class Python(Asking):
        def asks(self, x):
            return isinstance(x, torch.Tensor)

    with pytest.raises(UserError, match=r"Python cannot be traced: it does something else for a"):
        cut(Python(), IMAGES)


def test_a_number_of_images_is_no_number_of_a_networks_own():
    class Splitting(Unpacking):
        def forward(self, x):
            return torch.cat(super().forward(x).split(int(x.shape[0])))

    with pytest.raises(
        UserError, match=r"Splitting cannot be traced: .* known only when the network"
    ):
        cut(Splitting(), IMAGES, ["stem"])


def test_what_a_model_decides_by_its_features_cannot_be_traced():
    class Seeing(Deciding):
        def forward(self, x):
            return super().forward(2 * x if x.mean() > 0 else x)

    with pytest.raises(UserError, match=r"Seeing cannot be traced.*x.mean\(\) > 0"):
        cut(Seeing(), IMAGES)


class Turned(nn.Linear):
    def forward(self, x, rotary):
        return x + super().forward(x * rotary)


class Rotating(nn.Module):
    """Layers of tokens that all read one embedding of places, made of the map's sides."""

    def __init__(self, one_for_each_image: bool) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5)
        self.layers = nn.ModuleList(Turned(8, 8) for _ in range(4))
        self.register_buffer("bands", torch.arange(1.0, 9.0), persistent=False)
        self.one_for_each_image = one_for_each_image

    def forward(self, x):
        x = self.stem(x).flatten(2).permute(2, 0, 1)  # places first, images second
        places, images, _ = x.shape
        rotary = torch.ones(places, device=x.device).cumsum(0)[:, None, None] * self.bands
        rotary = torch.sin(rotary).expand(-1, images if self.one_for_each_image else 1, -1)
        for layer in self.layers:
            x = layer(x, rotary)
        return self.fc(x.mean(0))


def test_what_all_blocks_read_of_the_sides_of_a_map_is_theirs_as_for_the_example():
    torch.manual_seed(0)
    model = Rotating(one_for_each_image=False).eval()
    net = cut(model, IMAGES, ["stem", "layers.1", "layers.3"])
    images = torch.rand(5, 3, 32, 32)  # another number than the example's
    assert net(images).equal(model(images))
    assert not any(name.startswith("_constant") for name in vars(model))
    net.blocks["layers.3"].module.double()
    feature = torch.rand(1, 64, 8).permute(1, 0, 2).double()
    assert net.features({"layers.1": feature}, {"layers.3"})["layers.3"].dtype == torch.float64


def test_what_depends_on_the_number_of_images_is_no_blocks_own():
    words = "behind layers.1 more than one value is still in use; Rotating can be cut at stem"
    with pytest.raises(UserError, match=words):
        cut(Rotating(one_for_each_image=True), IMAGES, ["stem", "layers.1"])


def test_a_tensor_that_a_model_keeps_for_later_can_learn():
    class Keeping(Own):
        kept = None

        def forward(self, x):
            if self.kept is None:
                self.kept = torch.rand(8, 1, 1)
            x = self.last(self.body(self.stem(x)) * self.kept)
            return self.fc(x.mean((2, 3)))

    model = Keeping()
    cut(model, IMAGES)
    assert model.kept is not None
    model(IMAGES).sum().backward()
    assert model.stem[0].weight.grad.any()
