"""Softened logits and labels at once."""

from functools import partial

from stagewise_kd.methods.losses import soft_cross_entropy
from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import LOSS, Plan, Stage, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.methods.usual import LABEL_WEIGHT
from stagewise_kd.networks.blocks import LOGITS, BlockNet
from stagewise_kd.system.errors import UserError


@describes()
def hinton(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    temperature: float = 4.0,
    label_weight: float = LABEL_WEIGHT,
    standardize: bool = False,
) -> Plan:
    """Labels and softened logits in one stage (Hinton et al. 2015); a weight of 0: no labels.

    With `standardize` logits are compared in units of their standard deviation over the classes
    (Sun et al. 2024, arXiv 2403.01427).
    """
    return (softened("hinton", task, student, epochs, temperature, label_weight, standardize),)


def softened(
    name: str,
    task: Task,
    student: BlockNet,
    epochs: int,
    temperature: float = 4.0,
    label_weight: float = LABEL_WEIGHT,
    standardize: bool = False,
) -> Stage:
    """A stage that trains the whole student on labels, softened logits, or both."""
    if not 0 <= label_weight <= 1:
        raise UserError(f"method.label_weight={label_weight}: give 0 (no labels) to 1 (no teacher)")
    soft = partial(soft_cross_entropy, temperature=temperature, standardize=standardize)
    terms = (
        Term("labels", task.label_loss, LOGITS, weight=label_weight),
        Term("logits", soft, LOGITS, LOGITS, 1 - label_weight, "none"),
    )
    used = tuple(term for term in terms if term.weight)
    return Stage(name, student.names, used, epochs, task.monitor if label_weight else LOSS)
