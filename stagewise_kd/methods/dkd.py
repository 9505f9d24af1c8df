"""Logits of the target class and of all others, apart."""

from functools import partial

from stagewise_kd.methods.joint import joint
from stagewise_kd.methods.logit_losses import decoupled
from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import Plan, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import LOGITS, BlockNet


@describes()
def dkd(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    labels: bool = True,
) -> Plan:
    """Labels, and the softened logits of target class and other classes with weights of their own.

    Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv 2203.08679, eq. 7; of masks
    for each pixel. The paper's code lets the term grow over the first 20 of 240 epochs; here it has
    its whole weight at once.

    Args:
        task: gives the label loss.
        student: the network to train.
        teacher: the trained network.
        epochs: of the only stage.
        alpha: weight of the target class.
        beta: weight of the others.
        temperature: of the softened logits.
        labels: whether labels are learned; without, the target is the class that the teacher
            chooses.
    """
    loss = partial(decoupled, alpha=alpha, beta=beta, temperature=temperature)
    term = Term("logits", loss, LOGITS, LOGITS, adapter="none", labels=labels)
    return (joint("dkd", task, student, [term], epochs, labels),)
