"""Blocks that learn inside the teacher, then are joined one after the other."""

from collections.abc import Sequence
from functools import partial

from stagewise_kd.methods.keeping import copy_rest
from stagewise_kd.methods.logit_losses import directions
from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import LOSS, Adapter, Plan, Stage, Term
from stagewise_kd.methods.stagewise import shares
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import IMAGE, LOGITS, BlockNet
from stagewise_kd.networks.matching import Match, matched


@describes(keeps_head=True)
def netgraft(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    match: Sequence[Match] | None = None,
    resize: bool = False,
    adapter: Adapter = "conv1x1",
) -> Plan:
    """Train each block in its place in the teacher on the teacher's logits, then more and more.

    Shen et al., "Progressive Network Grafting for Few-Shot Knowledge Distillation", AAAI 2021,
    arXiv 2012.04915: the distance of logits of unit norm, no labels. First every block alone, with
    the teacher's blocks before and behind it, then the first two together, the first three, …,
    until all are the student under the teacher's head. Where widths differ, the paper's 1×1
    convolutions inside the student become a part of it; here they are dropped, and what comes
    behind them learns that while it is joined.

    Args:
        task: not asked: there are no labels.
        student: the network to train.
        teacher: the trained network.
        epochs: of each stage: one for each block, and one less to join them.
        match: pairs of features; None: the encoders' where resolutions agree.
        resize: scale the student's features to the teacher's where resolutions differ.
        adapter: what to do where widths differ.

    Raises:
        UserError: the features cannot be paired, or the teacher's head does not fit.
    """
    pairs = matched(student, teacher, match, resize=resize)
    trains = shares(student, [ours for ours, _ in pairs])
    term = partial(_grafted, teacher, adapter, resize)
    stage = partial(Stage, epochs=epochs, monitor=LOSS)
    alone = [
        stage(f"graft-{ours}", trains[ours], (term([(ours, theirs)]),), fed="teacher", match=pairs)
        for ours, theirs in pairs
    ]
    joined = []
    for count in range(2, len(pairs) + 1):
        some = pairs[:count]
        learn = tuple(name for ours, _ in some for name in trains[ours])
        joined.append(stage(f"join-{some[-1][0]}", learn, (term(some),)))
    learned = {name for names in trains.values() for name in names}
    rest = tuple(name for name in student.names if name not in learned)
    taught = {theirs for _, theirs in pairs}
    copy_rest(teacher, student, rest, taught, "method=netgraft keeps the teacher's head")
    return (*alone, *joined)


def _grafted(teacher: BlockNet, adapter: Adapter, resize: bool, pairs: Sequence[Match]) -> Term:
    """The student's features of these pairs in the teacher, those that its other blocks read."""
    rest = teacher.needed({IMAGE, *(theirs for _, theirs in pairs)}, {LOGITS})
    read = {feature for name in rest for feature in teacher.blocks[name].reads}
    ours, through = zip(*(pair for pair in pairs if pair[1] in read), strict=True)
    return Term("logits", directions, ours, LOGITS, 1.0, adapter, resize, through)
