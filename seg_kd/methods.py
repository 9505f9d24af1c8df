"""The distillation methods for U-Nets: the engine's, told which blocks are encoder and decoder."""

from typing import Any

from stagewise_kd.methods import simultaneous as shared_simultaneous
from stagewise_kd.methods import stagewise as shared_stagewise
from stagewise_kd.methods.plan import Plan
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import BlockNet


def encoder_blocks(net: BlockNet) -> list[str]:
    """Names of the blocks before the decoder: stem, layer1 and so on."""
    return [name for name in net.names if not name.startswith(("decoder", "head"))]


def stagewise(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    distill_decoder: bool = False,
    train_decoder: bool = True,
    **options: Any,
) -> Plan:
    """Match the encoder block by block, then train decoder and head on labels.

    Args:
        task: gives the label loss.
        student: the U-Net to train.
        teacher: the trained U-Net.
        epochs: epochs of each stage.
        distill_decoder: match the decoder's blocks too; only the head learns from labels then.
        train_decoder: False keeps the teacher's decoder and head: a student without labels.
        options: of `stagewise_kd.methods.stagewise`.

    Raises:
        UserError: the options do not fit the networks.
    """
    matched = list(student.names[:-1]) if distill_decoder else encoder_blocks(student)
    return shared_stagewise.stagewise(
        task,
        student,
        teacher,
        epochs=epochs,
        features=matched,
        head="labels" if train_decoder else "teacher",
        last="head" if distill_decoder else "decoder",
        **options,
    )


def simultaneous(
    task: Task, student: BlockNet, teacher: BlockNet, *, epochs: int, **options: Any
) -> Plan:
    """Match the encoder's features and learn the labels at once, all terms weighted alike."""
    features = encoder_blocks(student)
    return shared_simultaneous.simultaneous(
        task, student, teacher, epochs=epochs, features=features, **options
    )
