"""Early features learned with the help of later ones."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stagewise_kd.methods.feature_losses import hierarchical
from stagewise_kd.methods.joint import joint
from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import Plan, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.layout import Shape
from stagewise_kd.networks.matching import Match, matched_maps

WIDTH = 512  # of what is fused, at most


@describes()
def review(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    match: Sequence[Match] | None = None,
    weight: float = 1.0,
) -> Plan:
    """Labels, and each of the teacher's features from the student's of its level and all later.

    Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, arXiv 2104.09044, eq. 6,
    with its fusion by attention (figure 3a) and its hierarchical loss (figure 3b). What fuses is no
    part of the student.

    Args:
        task: gives the label loss.
        student: the network to train.
        teacher: the trained network.
        epochs: of the only stage.
        match: pairs of features; None: the encoders' where resolutions agree.
        weight: of the term.

    Raises:
        UserError: the features cannot be paired, or are no maps.
    """
    ours, theirs = zip(*matched_maps(student, teacher, match), strict=True)
    term = Term("review", hierarchical, ours, theirs, weight, Fusion)
    return (joint("review", task, student, [term], epochs),)


class Fusion(nn.Module):
    """The student's features, first to last, to what stands against the teacher's.

    Args:
        given: shapes of the student's features, (C, H, W), of falling resolution.
        wanted: shapes of the teacher's.
    """

    def __init__(self, given: Sequence[Shape], wanted: Sequence[Shape]) -> None:
        super().__init__()
        width = min(WIDTH, given[-1][0])
        self.inputs = nn.ModuleList(_normed(shape[0], width, 1) for shape in given)
        self.outputs = nn.ModuleList(_normed(width, shape[0], 3) for shape in wanted)
        self.attention = nn.ModuleList(nn.Conv2d(2 * width, 2, 1) for _ in given[1:])

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Fuse the features from the last to the first."""
        fused, found = self.inputs[-1](features[-1]), []
        found.append(self.outputs[-1](fused))
        for level in reversed(range(len(features) - 1)):
            own = self.inputs[level](features[level])
            later = F.interpolate(fused, own.shape[2:], mode="nearest")
            share = self.attention[level](torch.cat([own, later], dim=1)).sigmoid()
            fused = own * share[:, :1] + later * share[:, 1:]
            found.append(self.outputs[level](fused))
        return tuple(found[::-1])


def _normed(inputs: int, outputs: int, side: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))
