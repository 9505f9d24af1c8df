from dataclasses import replace

import pytest
import torch
from torch import nn

from stagewise_kd.methods.checks import check_plan
from stagewise_kd.methods.losses import mse
from stagewise_kd.methods.plan import LOSS, Stage, Term
from stagewise_kd.networks.blocks import Block, BlockNet
from stagewise_kd.system.errors import UserError


class Tokens(nn.Module):
    """Every pixel as a token, (B, H · W, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(3, width)

    def forward(self, image):
        return self.embed(image.flatten(2).transpose(1, 2))


def tokens(width: int, name: str = "tokens.0") -> BlockNet:
    model = nn.ModuleDict({"embed": Tokens(width), "head": nn.Linear(width, 2)})
    blocks = [
        Block(name, model["embed"], ("image",)),
        Block("head", model["head"], (name,), "head"),
    ]
    return BlockNet(model, blocks, [0.0], [1.0])


def stage(adapter: str) -> Stage:
    term = Term("tokens.0", mse, "tokens.0", "tokens.0", adapter=adapter)
    return Stage("tokens.0", ("tokens.0",), (term,), 1, LOSS)


def test_tokens_of_other_widths_get_a_linear_adapter():
    found = check_plan((stage("conv1x1"),), tokens(4), tokens(6), (3, 5, 5))["tokens.0"]
    (adapter,) = found.values()
    assert isinstance(adapter, nn.Linear)
    assert adapter(torch.rand(2, 25, 4)).shape == (2, 25, 6)


def test_a_loss_that_is_free_of_widths_gets_none():
    def lengths(student, teacher):
        return (student.norm(dim=2) - teacher.norm(dim=2)).pow(2).mean()

    free = stage("free")
    term = replace(free.terms[0], loss=lengths)
    plan = (replace(free, terms=(term,)),)
    assert not check_plan(plan, tokens(4), tokens(6), (3, 5, 5))["tokens.0"]
    with pytest.raises(UserError, match=r"stage 'tokens.0': mse: the student gives \(2, 25, 4\)"):
        check_plan((free,), tokens(4), tokens(6), (3, 5, 5))


def test_no_adapter_is_an_error():
    with pytest.raises(UserError, match=r"gives \(25, 4\), the teacher \(25, 6\); set adap"):
        check_plan((stage("none"),), tokens(4), tokens(6), (3, 5, 5))


def test_numbers_of_tokens_must_agree():
    class Half(Tokens):
        def forward(self, image):
            return super().forward(image)[:, :12]

    teacher = tokens(4)
    teacher.blocks["tokens.0"] = Block("tokens.0", Half(4), ("image",))
    with pytest.raises(UserError, match="only widths may differ"):
        check_plan((stage("free"),), tokens(4), teacher, (3, 5, 5))


def test_a_network_that_cannot_take_the_images():
    with pytest.raises(UserError, match=r"the student cannot take images of \(4, 5, 5\)"):
        check_plan((stage("free"),), tokens(4), tokens(4), (4, 5, 5))
