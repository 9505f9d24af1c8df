"""A hint for the lower half, then labels."""

from collections.abc import Sequence
from dataclasses import replace

from stagewise_kd.methods.hinton import softened
from stagewise_kd.methods.losses import mse
from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import LOSS, Adapter, Plan, Stage, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import IMAGE, BlockNet
from stagewise_kd.networks.matching import Match, matched


@describes()
def fitnets(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    match: Sequence[Match] | None = None,
    resize: bool = False,
    adapter: Adapter = "conv1x1",
    frozen: bool = False,
    temperature: float = 3.0,
    label_weight: float = 0.2,
) -> Plan:
    """Learn the teacher's middle feature by MSE, then labels and softened logits.

    Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, eq. 3 (the hint, half the squared
    distance there) and eq. 2 (labels and softened logits; its λ falls from 4, weights of 0.2 and
    0.8, to 1, and stays where it starts here).

    Args:
        task: gives the label loss.
        student: the network to train.
        teacher: the trained network.
        epochs: of each of the two stages.
        match: pairs of features, of which the middle one is the hint; None: the encoders' where
            resolutions agree.
        resize: scale the student's feature to the teacher's where resolutions differ.
        adapter: what to do where widths differ; the paper's regressor.
        frozen: whether what has learned the hint is left as it is afterwards.
        temperature: of the softened logits.
        label_weight: share of the labels in the second stage; 1: labels alone.

    Raises:
        UserError: the features cannot be paired, or the weight is none.
    """
    pairs = matched(student, teacher, match, resize=resize)
    ours, theirs = pairs[len(pairs) // 2]
    guided = tuple(student.needed({IMAGE}, {ours}))
    hint = Term(ours, mse, ours, theirs, adapter=adapter, resize=resize)
    rest = tuple(name for name in student.names if name not in guided)
    last = softened("labels", task, student, epochs, temperature, label_weight)
    return (
        Stage("hint", guided, (hint,), epochs, LOSS),
        replace(last, trains=rest) if frozen else last,
    )
