"""Shrinking from Python."""

from copy import deepcopy
from functools import partial

import pytest
import timm
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import cls_kd
import stagewise_kd as skd
from stagewise_kd.networks.blocks import Block, BlockNet
from stagewise_kd.networks.cost import macs
from stagewise_kd.networks.hashes import weights_hash
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.networks.tracer import Skip
from stagewise_kd.runs.student import save_student
from stagewise_kd.system.errors import UserError
from tests.stagewise_kd.sizing.nets import Residual, chain, images


def _params(net):
    return sum(parameter.numel() for parameter in net.parameters())


def test_a_smaller_network_of_the_same_class_that_starts_from_the_weights(tmp_path, capsys):
    net, x = chain().train(), images(12)
    before = weights_hash(net)
    found = skd.shrink(net, x, params=0.6, repair_steps=2, out=tmp_path)
    assert type(found) is type(net)
    assert 0.3 * _params(net) < _params(found) <= 0.6 * _params(net)
    assert found.head.weight.equal(net.head.weight)
    assert weights_hash(net) == before
    assert net.training
    assert not found.training
    assert "of the network's; predicted loss" in capsys.readouterr().err
    assert (tmp_path / "choice.json").is_file()
    again = skd.shrink(net, x, params=0.6, repair_steps=2, out=tmp_path)
    assert weights_hash(again) == weights_hash(found)


def test_images_come_as_distill_takes_them():
    net, x = chain(), (images(12).clamp(0, 1) * 255).to(torch.uint8)
    labels = torch.zeros(12)
    norm = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.3)}
    scaled = (x / 255 - torch.tensor(norm["mean"]).view(3, 1, 1)) / torch.tensor(norm["std"]).view(
        3, 1, 1
    )
    blocks = BlockNet(net, [Block("model", net, ("image",), "head")], **norm)
    found = [
        skd.shrink(net, x, params=0.7, repair_steps=2, **norm),
        skd.shrink(net, TensorDataset(x, labels), params=0.7, repair_steps=2, **norm),
        skd.shrink(net, DataLoader(TensorDataset(scaled, labels), 5), params=0.7, repair_steps=2),
        skd.shrink(blocks, x, params=0.7, repair_steps=2).model,
    ]
    states = [model.state_dict() for model in found]
    assert all(state.keys() == states[0].keys() for state in states)
    assert all(state[k].allclose(states[0][k], atol=1e-5) for state in states for k in state)


def test_a_shrunk_network_is_cut_and_its_folder_opened_again(tmp_path):
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    teacher = resnet("resnet10", 4)
    student = skd.shrink(teacher.model, x, params=0.4, repair_steps=0)
    assert type(student) is type(teacher.model)
    save_student(tmp_path, skd.cut(student, x), {})
    loaded = skd.load(tmp_path)
    assert _params(loaded) < 0.4 * _params(teacher)
    assert loaded(x).equal(student(x))
    blocks = skd.shrink(teacher, x, params=0.4, repair_steps=0)
    assert blocks.names == teacher.names
    assert blocks.origin.arguments["build"] == teacher.origin.build


@pytest.mark.parametrize("method", ["stagewise", "hinton"])
def test_a_library_network_is_shrunk_and_distilled_and_opened_without_its_code(tmp_path, method):
    torch.manual_seed(0)
    teacher = timm.create_model("test_efficientnet", num_classes=3)
    x = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8)
    student = skd.shrink(teacher, x, params=0.8, repair_steps=0)
    assert _params(student) < _params(teacher)
    data = [(image, number % 3) for number, image in enumerate(x)]
    for name, net in (("shrunk", student), ("whole", deepcopy(teacher))):
        options = {"steps": 1, "batch_size": 4, "out": tmp_path / name}
        run = cls_kd.distill(net, teacher, data, method=method, **options)
        loaded = skd.load(tmp_path / name)
        assert type(loaded) is type(teacher) and _params(loaded) == _params(net)
        given = torch.rand(2, 3, 32, 32)
        with torch.no_grad():
            assert loaded(given).equal(run.student(given))
    assert run.result["student"] == run.result["teacher"] == "timm/test_efficientnet"


def test_a_network_of_ones_own_is_shrunk_twice_and_opened_by_what_made_the_whole(tmp_path):
    torch.manual_seed(0)
    teacher, x = chain(depth=6), images(12)
    smaller = skd.shrink(teacher, x, params=0.9, repair_steps=0)
    smallest = skd.shrink(smaller, x, params=0.8, repair_steps=0)
    assert _params(smallest) < _params(smaller) < _params(teacher)
    data = [(image, number % 2) for number, image in enumerate(x)]
    run = cls_kd.distill(smallest, teacher, data, steps=1, batch_size=4, out=tmp_path / "run")
    loaded = skd.load(tmp_path / "run", factory=lambda: chain(depth=6))
    with torch.no_grad():
        assert loaded.eval()(x).equal(run.student(x))


def test_latency_is_kept_as_it_is_measured():
    found = skd.shrink(chain(depth=6), images(2, 64), latency=0.6, repair_steps=0)
    assert sum(isinstance(block, Skip) for block in found.blocks) >= 1


def test_an_alternative_of_ones_own_is_taken_where_it_loses_least():
    net, x = chain(), images(8)

    def own(path, block):
        thin = Residual(inner=1)
        nn.init.zeros_(thin.conv2.weight)
        nn.init.zeros_(thin.conv2.bias)
        return {"thin": thin} if path == "blocks.2" else {}

    with torch.no_grad():
        net.blocks[2].conv2.weight.zero_()
        net.blocks[2].conv2.bias.zero_()
        net.blocks[2].bn.weight.zero_()
    found = skd.shrink(net, x, params=0.8, repair_steps=0, alternatives_of=own)
    assert found(x).allclose(net(x), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "no target: give one of macs, params and latency, such as macs=0.5"),
        ({"macs": 0.5, "latency": 0.5}, "macs=0.5, latency=0.5: give one of"),
        ({"macs": 1.5}, "macs=1.5: give a share of the network's, above 0 and at most 1"),
        ({"params": 0.01}, r"params=0.01: nothing is that small; .* give params=0\.\d+ or more"),
        ({"macs": 0.5, "repair_steps": -1}, "repair_steps=-1: give a whole number from 0 up"),
        ({"macs": 0.5, "mean": (0.5,) * 3}, "mean, std: are those of uint8 images"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(UserError, match=said):
        skd.shrink(chain(), images(3), **options)


def test_bad_images_and_networks():
    with pytest.raises(UserError, match="images is empty; give at least one sample"):
        skd.shrink(chain(), images(0), macs=0.5)
    with pytest.raises(UserError, match=r"Chain cannot take images of \(1, 8, 8\)"):
        skd.shrink(chain(), images(3)[:, :1], macs=0.5)
    with pytest.raises(UserError, match="model: a str; expected a network"):
        skd.shrink("resnet34", images(3), macs=0.5)
    with pytest.raises(UserError, match="no block that can be left out"):
        skd.shrink(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), images(3), macs=0.5)


class Linked(nn.Module):
    """Runs its blocks under the second of their names, as MONAI's DynUNet does."""

    def __init__(self):
        super().__init__()
        net = chain()
        self.stem, self.blocks, self.head = net.stem, nn.ModuleList(net.blocks), net.head
        self.order = nn.ModuleList([self.stem, *self.blocks])

    def forward(self, x):
        for block in self.order:
            x = block(x)
        return self.head(x.mean((2, 3)))


def test_a_block_of_two_names_is_replaced_under_both(tmp_path):
    torch.manual_seed(0)
    net, x = Linked().eval(), images(16)
    found = skd.shrink(net, x, macs=0.5, repair_steps=3)
    assert macs(partial(found, x[:1])) <= 0.5 * macs(partial(net, x[:1]))
    assert all(one is other for one, other in zip(found.blocks, found.order[1:], strict=True))
    run = cls_kd.distill(found, net, x, steps=2, batch_size=4, out=tmp_path / "run")
    again = skd.load(tmp_path / "run", factory=Linked)
    assert again(x).equal(run.student(x))
