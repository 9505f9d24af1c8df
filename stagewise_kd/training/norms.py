"""Whether BatchNorm can train on the batches of a run."""

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stagewise_kd.data.loaders import Data
from stagewise_kd.data.sampling import share
from stagewise_kd.methods.plan import Plan
from stagewise_kd.networks.blocks import IMAGE, LOGITS, BlockNet
from stagewise_kd.system.errors import UserError


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
        _, images = data.for_stage(stage.sees_labels)
        alone = min(batch_size, share(len(images))) == 1  # type: ignore[arg-type]
        if alone and stage.norm == "train" and _has_single(student, stage.trains, data.shape):
            raise UserError(
                f"stage {stage.name!r}: of one image BatchNorm gets one value a channel, and "
                "cannot learn; give more images, batch_size=2 or more, or method.norm=frozen"
            )


@torch.inference_mode()
def _has_single(net: BlockNet, names: tuple[str, ...], shape: tuple[int, ...]) -> bool:
    """Whether a BatchNorm of these blocks gets maps of one pixel."""
    pixels: list[int] = []

    def look(module: nn.Module, given: Any) -> None:
        pixels.append(given[0][0, 0].numel())

    norms = [
        part
        for block in net.modules_of(names)
        for part in block.modules()
        if isinstance(part, _BatchNorm)
    ]
    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    try:
        net.eval().features({IMAGE: torch.zeros(1, *shape, device=net.mean.device)}, {LOGITS})
    finally:
        for hook in hooks:
            hook.remove()
    return 1 in pixels
