"""All features and the labels at once: the published baseline."""

from collections.abc import Sequence

from stagewise_kd.methods.losses import mse
from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import Adapter, Plan, Stage, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import LOGITS, BlockNet
from stagewise_kd.networks.matching import Match, matched


@describes()
def simultaneous(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    match: Sequence[Match] | None = None,
    resize: bool = False,
    adapter: Adapter = "conv1x1",
) -> Plan:
    """Match all features of the encoder and learn the labels at once, all terms weighted alike.

    The baseline of Kulkarni et al. (arXiv 1911.06786): the mean of the terms.

    Args:
        task: gives the label loss.
        student: the network to train.
        teacher: the trained network.
        epochs: of the only stage.
        match: pairs of features; None: the encoders' where resolutions agree.
        resize: scale the student's features to the teacher's where resolutions differ.
        adapter: what to do where widths differ.

    Raises:
        UserError: the features cannot be paired.
    """
    pairs = matched(student, teacher, match, resize=resize)
    weight = 1 / (len(pairs) + 1)
    terms = [Term(ours, mse, ours, theirs, weight, adapter, resize) for ours, theirs in pairs]
    terms.append(Term("labels", task.label_loss, LOGITS, weight=weight))
    return (Stage("simultaneous", student.names, tuple(terms), epochs, task.monitor),)
