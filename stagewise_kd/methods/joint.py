"""Everything at once: the stage that most methods are."""

from collections.abc import Iterable

from stagewise_kd.methods.plan import LOSS, Stage, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import LOGITS, BlockNet


def joint(
    name: str,
    task: Task,
    student: BlockNet,
    terms: Iterable[Term],
    epochs: int,
    labels: bool = True,
) -> Stage:
    """A stage that trains the whole student on terms against the teacher, and on labels.

    Args:
        name: of the stage.
        task: gives the label loss, of weight 1.
        student: the network to train.
        terms: against the teacher.
        epochs: of the stage.
        labels: whether there is the label loss too.
    """
    label = (Term("labels", task.label_loss, LOGITS),) if labels else ()
    return Stage(name, student.names, (*label, *terms), epochs, task.monitor if labels else LOSS)
