"""All features and the labels at once: the published baseline."""

from stagewise_kd.methods.losses import mse
from stagewise_kd.methods.plan import Adapter, Plan, Stage, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import LOGITS, BlockNet


def simultaneous(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    features: list[str],
    adapter: Adapter = "conv1x1",
) -> Plan:
    """Match all features and learn the labels at once, all terms weighted alike.

    The baseline of Kulkarni et al. (arXiv 1911.06786): the mean of the terms.
    """
    weight = 1 / (len(features) + 1)
    terms = [Term(name, mse, name, name, weight, adapter) for name in features]
    terms.append(Term("labels", task.label_loss, LOGITS, weight=weight))
    return (Stage("simultaneous", student.names, tuple(terms), epochs, task.monitor),)
