"""The flow from layer to layer, then labels."""

from collections.abc import Sequence
from itertools import pairwise

from stagewise_kd.methods.feature_losses import flow
from stagewise_kd.methods.joint import joint
from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import LOSS, Adapter, Plan, Stage, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import IMAGE, BlockNet
from stagewise_kd.networks.matching import Match, matched_maps
from stagewise_kd.system.errors import UserError


@describes()
def fsp(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    match: Sequence[Match] | None = None,
    adapter: Adapter = "conv1x1",
) -> Plan:
    """Learn how each matched feature comes of the one before it, then labels.

    Yim et al., "A Gift from Knowledge Distillation", CVPR 2017, eq. 1 to 3: matrices of the inner
    products of the channels of two layers, all of one weight. The paper has layers of equal widths;
    of others a 1×1 convolution stands behind the student's.

    Args:
        task: gives the label loss.
        student: the network to train.
        teacher: the trained network.
        epochs: of each of the two stages.
        match: pairs of features, two at least; None: the encoders' where resolutions agree.
        adapter: what to do where widths differ.

    Raises:
        UserError: the features cannot be paired, are no maps, or there is one pair alone.
    """
    pairs = matched_maps(student, teacher, match)
    if len(pairs) < 2:
        raise UserError(
            "method=fsp compares what lies between two features, and one alone is matched; match "
            "more: match=[[student,teacher],…]"
        )
    terms = tuple(
        Term(f"{a[0]}-{b[0]}", flow, (a[0], b[0]), (a[1], b[1]), adapter=adapter)
        for a, b in pairwise(pairs)
    )
    trains = tuple(student.needed({IMAGE}, {ours for ours, _ in pairs}))
    return Stage("flow", trains, terms, epochs, LOSS), joint("labels", task, student, (), epochs)
