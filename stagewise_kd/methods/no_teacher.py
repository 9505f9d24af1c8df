"""The student alone, from scratch or from where it starts."""

from dataclasses import replace
from typing import Literal

from stagewise_kd.methods.joint import joint
from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import Plan
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.system.errors import UserError

Trains = Literal["all", "head"]


@describes(needs_teacher=False)
def no_teacher(
    task: Task,
    student: BlockNet,
    teacher: BlockNet | None,
    *,
    epochs: int,
    trains: Trains = "all",
) -> Plan:
    """Train the student on labels alone.

    Args:
        task: gives the label loss.
        student: the network to train.
        teacher: not used.
        epochs: epochs of the one stage.
        trains: "head" keeps the encoder as it starts, and trains what is behind it.

    Raises:
        UserError: there is nothing of that name, or no encoder to keep.
    """
    if trains not in ("all", "head"):
        raise UserError(f"method.trains={trains}: give all or head")
    if trains == "head" and not student.of_role("encoder"):
        raise UserError("method.trains=head: the student is one block; say where to cut it: at=[…]")
    behind = student.of_role("decoder", "head")
    blocks = student.names if trains == "all" else behind
    return (replace(joint("labels", task, student, (), epochs), trains=blocks),)
