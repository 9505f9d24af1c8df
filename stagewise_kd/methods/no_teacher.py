"""The student alone, from scratch."""

from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import Plan, Stage, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import LOGITS, BlockNet


@describes(needs_teacher=False)
def no_teacher(task: Task, student: BlockNet, teacher: BlockNet | None, *, epochs: int) -> Plan:
    """Train the whole student on labels alone."""
    label = Term("labels", task.label_loss, LOGITS)
    return (Stage("labels", student.names, (label,), epochs, task.monitor),)
