"""Softened logits and labels at once."""

from functools import partial

from stagewise_kd.methods.losses import soft_cross_entropy
from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import Plan, Stage, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import LOGITS, BlockNet


@describes(one_stage=True)
def hinton(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    temperature: float = 4.0,
    label_weight: float = 0.1,
) -> Plan:
    """Labels and softened logits in one stage (Hinton et al. 2015)."""
    return (softened("hinton", task, student, epochs, temperature, label_weight),)


def softened(
    name: str,
    task: Task,
    student: BlockNet,
    epochs: int,
    temperature: float = 4.0,
    label_weight: float = 0.1,
) -> Stage:
    """A stage that trains the whole student on labels and softened logits."""
    soft = partial(soft_cross_entropy, temperature=temperature)
    terms = (
        Term("labels", task.label_loss, LOGITS, weight=label_weight),
        Term("logits", soft, LOGITS, LOGITS, 1 - label_weight, "none"),
    )
    return Stage(name, student.names, terms, epochs, task.monitor)
