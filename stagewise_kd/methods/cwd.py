"""Where each channel of the teacher is active."""

from collections.abc import Sequence
from functools import partial
from math import prod

from stagewise_kd.methods.feature_losses import channel_wise
from stagewise_kd.methods.joint import joint
from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import Adapter, Plan, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import LOGITS, BlockNet
from stagewise_kd.networks.matching import Match, matched_maps, resolution
from stagewise_kd.system.errors import UserError

WEIGHTS = {"logits": 3.0, "feature": 50.0}  # the paper's


@describes()
def cwd(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    match: Sequence[Match] | None = None,
    adapter: Adapter = "conv1x1",
    temperature: float = 4.0,
    weight: float | None = None,
) -> Plan:
    """Labels, and for each channel the softened distribution over its places.

    Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021, arXiv
    2011.13256, eq. 4. Of masks the channels are the logits', of classes those of a feature.

    Args:
        task: gives the label loss.
        student: the network to train.
        teacher: the trained network.
        epochs: of the only stage.
        match: pairs of features, of which the last one of several places is used; of masks the
            logits are instead where this is None.
        adapter: what to do where widths differ.
        temperature: of the softmax over places.
        weight: of the term; None: 3 of logits, 50 of a feature, as in the paper.

    Raises:
        UserError: the features cannot be paired, are no maps, or all of one place.
    """
    dense = len(student.shapes.get(student.names[-1], ())) == 3
    kind = "logits" if dense and match is None else "feature"
    pair = (LOGITS, LOGITS) if kind == "logits" else _last(student, teacher, match)
    loss = partial(channel_wise, temperature=temperature)
    term = Term(kind, loss, *pair, WEIGHTS[kind] if weight is None else weight, adapter)
    return (joint("cwd", task, student, [term], epochs),)


def _last(student: BlockNet, teacher: BlockNet, match: Sequence[Match] | None) -> Match:
    """The last pair of features of more than one place."""
    pairs = matched_maps(student, teacher, match)
    wide = [pair for pair in pairs if not student.shapes or prod(resolution(student, pair[0])) > 1]
    if not wide:
        raise UserError(
            "method=cwd compares the places of a channel, and all matched features are of one "
            "place; give larger images (data.size), or match earlier features"
        )
    return wide[-1]
