"""The optimizer of a stage and its schedule, made from what a run gives."""

from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any

import torch
from torch import nn

from stagewise_kd.system.errors import UserError, first_line

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Scheduler = Callable[..., torch.optim.lr_scheduler.LRScheduler]


def scheduled(
    optimizer: torch.optim.Optimizer, scheduler: Scheduler, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule of so many steps.

    Args:
        optimizer: whose learning rate is changed.
        scheduler: makes it from the optimizer; it is given `total_steps`, `T_max` or `total_iters`
            where it has such a parameter.
        steps: of the optimizer.
    """
    takes = signature(getattr(scheduler, "func", scheduler)).parameters
    length = {key: steps for key in ("total_steps", "T_max", "total_iters") if key in takes}
    return scheduler(optimizer, **length)


def check_optimizing(optimizer: Optimizer, scheduler: Scheduler | None) -> None:
    """Make both for one parameter, and step once, before hours of training.

    Raises:
        UserError: they do not take the options that they were given, or a figure with each step.
    """
    what = "optimizer"
    made_of: Any = optimizer
    try:
        made = optimizer([nn.Parameter(torch.zeros(1))])
        if scheduler is not None:
            what, made_of = "scheduler", scheduler
            schedule = scheduled(made, scheduler, steps=2)
            made.step(lambda: 0.0)
            schedule.step()
    except Exception as error:
        func = getattr(made_of, "func", made_of)
        raise UserError(
            f"{what}={getattr(func, '__name__', func)}: {first_line(error)}; {what}.NAME=VALUE "
            f"gives its options, `--help` tells the choices of {what}="
        ) from error
