"""BatchNorm needs several values a channel to train on."""

import pytest
import torch
from torch import nn

from stagewise_kd.data.loaders import Data
from stagewise_kd.methods.losses import relative_mse
from stagewise_kd.methods.no_teacher import no_teacher
from stagewise_kd.methods.plan import Stage, Term
from stagewise_kd.system.errors import UserError
from stagewise_kd.training.norms import check_norms, settled
from stagewise_kd.training.setup import Fitting, Setup
from tests.conftest import Pictures, tiny_net


def data(count: int, size: int) -> Data:
    return Data(Pictures(count, 0), Pictures(2, 1), Pictures(2, 2), (3, size, size), "", {})


@pytest.mark.parametrize(
    ("count", "size", "batch_size", "fine"),
    [(1, 4, 8, False), (2, 4, 8, True), (2, 4, 1, False), (1, 8, 8, True), (1, 8, 1, True)],
)
def test_single_values(task, count, size, batch_size, fine):
    """The tiny network halves its maps twice: of 4 pixels one is left."""
    plan, net = no_teacher(task, tiny_net(), None, epochs=1), tiny_net()
    before = {name: value.clone() for name, value in net.model.state_dict().items()}
    if fine:
        check_norms(plan, net, data(count, size), batch_size)
    else:
        with pytest.raises(UserError, match="stage 'labels': of one image BatchNorm"):
            check_norms(plan, net, data(count, size), batch_size)
    assert all(value.equal(before[name]) for name, value in net.model.state_dict().items())
    assert not any(part._forward_pre_hooks for part in net.modules())


def test_only_what_trains_counts(task):
    stage = Stage("head", ("head",), (), 1, task.monitor)
    check_norms((stage,), tiny_net(), data(1, 4), 8)
    frozen = Stage("b", ("b",), (), 1, task.monitor, norm="frozen")
    check_norms((frozen,), tiny_net(), data(1, 4), 8)


def test_what_is_refused_is_what_torch_refuses():
    net = tiny_net().train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        net(torch.zeros(1, 3, 4, 4))
    assert isinstance(net.blocks["b"].module[1], nn.BatchNorm2d)
    net(torch.zeros(2, 3, 4, 4))


def seen(images: torch.Tensor, spread: float = 1.0):
    """A network whose statistics are those of these images, their variances times `spread`."""
    torch.manual_seed(1)
    net = tiny_net()
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(images)
    for norm in norms:
        norm.running_var.mul_(spread)
    return net.eval()


@pytest.mark.parametrize(
    ("spread", "inherited", "asked", "expected"),
    [
        (1.0, True, None, "train"),
        (9.0, True, None, "frozen"),
        (9.0, False, None, "train"),
        (9.0, True, "train", "train"),
        (1.0, True, "frozen", "frozen"),
    ],
)
def test_statistics_of_the_teacher_are_kept_where_batches_would_move_it(
    task, spread, inherited, asked, expected
):
    found = data(8, 8)
    images = torch.stack([found.train[n][0] for n in range(8)]).float() / 255
    teacher = seen(images, spread)
    student = seen(images, spread) if inherited else tiny_net()
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    stage = Stage("b", ("b",), (Term("b", relative_mse, "b", "b"),), 1, task.monitor, norm=asked)
    setup = Setup(student, teacher, task, found, Fitting(torch.optim.SGD, batch_size=8))
    assert [each.norm for each in settled((stage,), setup)] == [expected]
    assert all(value.equal(before[name]) for name, value in teacher.model.state_dict().items())
    assert not teacher.training
