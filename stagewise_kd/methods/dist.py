"""How the teacher ranks classes and images, not how sure it is."""

from functools import partial

from stagewise_kd.methods.joint import joint
from stagewise_kd.methods.logit_losses import correlated
from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import Plan, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import LOGITS, BlockNet


@describes()
def dist(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    beta: float = 2.0,
    gamma: float = 2.0,
    temperature: float = 1.0,
    labels: bool = True,
) -> Plan:
    """Labels, and the correlation of probabilities over classes and over the images of a batch.

    Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, arXiv 2205.10536,
    eq. 7 to 10; of masks each pixel counts as an image.

    Args:
        task: gives the label loss.
        student: the network to train.
        teacher: the trained network.
        epochs: of the only stage.
        beta: weight of the correlation over the classes of an image.
        gamma: weight of that over the images for a class.
        temperature: of the softened logits.
        labels: whether labels are learned.
    """
    loss = partial(correlated, beta=beta, gamma=gamma, temperature=temperature)
    term = Term("logits", loss, LOGITS, LOGITS, adapter="none")
    return (joint("dist", task, student, [term], epochs, labels),)
