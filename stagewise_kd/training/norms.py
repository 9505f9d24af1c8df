"""Whether BatchNorm trains on the batches of a run, and whether it can."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.loaders import Data, Feed
from stagewise_kd.data.sampling import View, share
from stagewise_kd.methods.plan import Norm, Plan
from stagewise_kd.networks.blocks import IMAGE, LOGITS, BlockNet
from stagewise_kd.system.errors import UserError
from stagewise_kd.training.setup import Setup

FAR = 0.3  # of a feature's power: how far batches may move it; a ResNet34 by 0.02 to 0.2


def settled(plan: Plan, setup: Setup) -> Plan:
    """The plan whose stages all say what BatchNorm does.

    The student's statistics are frozen where they are the teacher's, and those of a batch would
    give the teacher itself other features than it has: after few or quick epochs, and where maps
    are small. No training makes good for that.

    Args:
        plan: the stages.
        setup: networks and data.

    Raises:
        UserError: a BatchNorm in training gets a single value a channel.
    """
    teacher = setup.teacher
    norm: Norm = "train"
    if teacher and not all(stage.norm for stage in plan) and _inherits(setup.student, teacher):
        norm = "frozen" if _moved(plan, setup, teacher) > FAR else norm
    plan = tuple(replace(stage, norm=stage.norm or norm) for stage in plan)
    check_norms(plan, setup.student, setup.data, setup.fitting.batch_size)
    return plan


def _inherits(student: BlockNet, teacher: BlockNet) -> bool:
    """Whether half of the student's BatchNorms at least have what the teacher learned."""
    known = {*_statistics(teacher)} - {None}
    same = [each in known for each in _statistics(student)]
    return 2 * sum(same) >= max(1, len(same))


def _statistics(net: BlockNet) -> Iterator[bytes | None]:
    """Of each BatchNorm; None where it has learned none."""
    for norm in _norms(net):
        found = norm.running_var
        yield None if found is None or (found == 1).all() else found.cpu().numpy().tobytes()


def _norms(net: nn.Module) -> list[_BatchNorm]:
    return [part for part in net.modules() if isinstance(part, _BatchNorm)]


@torch.no_grad()
def _moved(plan: Plan, setup: Setup, teacher: BlockNet) -> float:
    """How far a batch moves a feature of the teacher's at most, as a share of its power."""
    samples: Any = setup.data.for_stage(needs_labels=False)[1]
    count = min(setup.fitting.batch_size, len(samples))
    if count < 2:
        return 0.0
    images = Feed(samples).load([View(0, number) for number in range(count)])[0]
    copy = deepcopy(teacher).to(setup.device).eval()
    given = {IMAGE: unit_images(images).to(setup.device)}
    wanted = set().union(*(stage.taken(setup.student, teacher) for stage in plan))
    usual = copy.features(given, wanted)
    for norm in _norms(copy):
        norm.train()
    moved = copy.features(given, wanted)
    pairs = [(moved[name], usual[name]) for name in wanted]
    return max(
        float((a - b).square().mean() / b.square().mean().clamp_min(1e-12)) for a, b in pairs
    )


def check_norms(plan: Plan, student: BlockNet, data: Data, batch_size: int) -> None:
    """Check that no BatchNorm in training gets a single value a channel, of which it has no spread.

    Args:
        plan: the stages.
        student: the network to train.
        data: tells how many images there are, and of what shape.
        batch_size: images a step, where there are so many.

    Raises:
        UserError: one does: a batch is one image, and its feature one pixel.
    """
    for stage in plan:
        _, images = data.for_stage(stage.needs_labels)
        alone = min(batch_size, share(len(images))) == 1  # type: ignore[arg-type]
        if alone and stage.norm == "train" and _has_single(student, stage.trains, data.shape):
            raise UserError(
                f"stage {stage.name!r}: of one image BatchNorm gets one value a channel, and "
                "cannot learn; give more images, batch_size=2 or more, or method.norm=frozen"
            )


@torch.no_grad()
def _has_single(net: BlockNet, names: tuple[str, ...], shape: tuple[int, ...]) -> bool:
    """Whether a BatchNorm of these blocks gets maps of one pixel."""
    pixels: list[int] = []

    def look(module: nn.Module, given: Any) -> None:
        pixels.append(given[0][0, 0].numel())

    norms = [norm for block in net.modules_of(names) for norm in _norms(block)]
    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    try:
        net.eval().features({IMAGE: torch.zeros(1, *shape, device=net.mean.device)}, {LOGITS})
    finally:
        for hook in hooks:
            hook.remove()
    return 1 in pixels
