from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau, StepLR

from stagewise_kd.runs.build import make_fitting
from stagewise_kd.runs.composing import composing
from stagewise_kd.runs.config import resolved
from stagewise_kd.runs.overrides import as_typed
from stagewise_kd.system.errors import UserError
from stagewise_kd.training.optimizing import check_optimizing, scheduled

ADAM, SCHEDULE = partial(Adam, lr=0.1), partial(OneCycleLR, max_lr=0.1)


@pytest.mark.parametrize(
    ("optimizer", "scheduler", "said"),
    [
        (
            partial(ADAM, weight_decai=0.1),
            SCHEDULE,
            "optimizer=Adam: .*'weight_decai'; optimizer.N",
        ),
        (partial(ADAM, weight_decay=-1), None, "optimizer=Adam: Invalid weight_decay value: -1"),
        (partial(torch.optim.Adagrad, lr=1), SCHEDULE, "scheduler=OneCycleLR: optimizer must supp"),
        (ADAM, StepLR, "scheduler=StepLR: .* argument: 'step_size'; scheduler.NAME=VALUE gives"),
        (ADAM, ReduceLROnPlateau, "scheduler=ReduceLROnPlateau: .*'metrics'"),
        (ADAM, {"gamma": 0.1}, "scheduler={'gamma': 0.1}: .* is not a callable object"),
    ],
)
def test_options_that_are_not_taken_are_told(optimizer, scheduler, said):
    with pytest.raises(UserError, match=said):
        check_optimizing(optimizer, scheduler)


def test_what_can_train_passes():
    check_optimizing(torch.optim.LBFGS, None)
    check_optimizing(partial(ADAM, fused=True, weight_decay=0.1), SCHEDULE)


def test_a_schedule_is_as_long_as_the_stage():
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = scheduled(optimizer, CosineAnnealingLR, steps=4)
    rates = []
    for _ in range(5):
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1, 0.5 + 0.5 * 2**-0.5, 0.5, 0.5 - 0.5 * 2**-0.5, 0])


@pytest.mark.parametrize("scheduler", ["onecycle", "cosine", "constant"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_choice_can_train(optimizer, scheduler, tmp_path):
    given = [f"optimizer={optimizer}", f"scheduler={scheduler}", "lr=0.25"]
    with composing("cls") as compose:
        config = resolved(compose([*given, as_typed("optimizer.weight_decay=0.5")]))
    fitting = make_fitting(config, {}, tmp_path)
    made = fitting.optimizer([nn.Parameter(torch.zeros(1))])
    assert made.defaults["weight_decay"] == 0.5
    schedule = scheduled(made, fitting.scheduler, steps=10)
    highest = 0.0
    for _ in range(10):
        highest = max(highest, *schedule.get_last_lr())
        made.step()
        schedule.step()
    assert highest == pytest.approx(0.25)
