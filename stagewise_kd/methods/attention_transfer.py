"""Where the teacher looks."""

from collections.abc import Sequence

from stagewise_kd.methods import feature_losses
from stagewise_kd.methods.joint import joint
from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import Plan, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.matching import Match, matched_maps


@describes()
def attention_transfer(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    match: Sequence[Match] | None = None,
    beta: float = 1000.0,
) -> Plan:
    """Labels, and β/2 times the distance of the attention maps of all matched features.

    Zagoruyko & Komodakis, "Paying More Attention to Attention", ICLR 2017, eq. 2. Attention has no
    channels: features of any width are compared, without an adapter.

    Args:
        task: gives the label loss.
        student: the network to train.
        teacher: the trained network.
        epochs: of the only stage.
        match: pairs of features; None: the encoders' where resolutions agree.
        beta: the paper's, before it is divided by places and images.

    Raises:
        UserError: the features cannot be paired, or are no maps.
    """
    pairs = matched_maps(student, teacher, match)
    terms = [
        Term(ours, feature_losses.attention_transfer, ours, theirs, beta / 2, "free")
        for ours, theirs in pairs
    ]
    return (joint("attention", task, student, terms, epochs),)
