"""The teacher's last feature, under the teacher's head."""

from stagewise_kd.methods.keeping import copy_rest
from stagewise_kd.methods.losses import mse
from stagewise_kd.methods.method import describes
from stagewise_kd.methods.plan import LOSS, Plan, Stage, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import IMAGE, BlockNet
from stagewise_kd.system.errors import UserError


@describes(keeps_head=True)
def simkd(task: Task, student: BlockNet, teacher: BlockNet, *, epochs: int) -> Plan:
    """Match the feature that the head reads by MSE, and keep the teacher's head; no labels.

    Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022, arXiv
    2203.14001, eq. 3. Where the last features differ in width a 1×1 convolution, the student's
    block "adapter", is the projector; the paper's has three convolutions, at equal widths too. Of
    masks it is the decoder's last feature, of the teacher's width.

    Args:
        task: not asked: there are no labels.
        student: the network to train.
        teacher: the trained network.
        epochs: of the only stage.

    Raises:
        UserError: the teacher's head does not fit, or reads more than one feature.
    """
    ours, theirs = (_read_by_head(net) for net in (student, teacher))
    rest = student.of_role("head")
    taught = {*teacher.names} - {*teacher.of_role("head")}
    copy_rest(teacher, student, rest, taught, "method=simkd keeps the teacher's head")
    trains = tuple(student.needed({IMAGE}, {ours}))
    term = Term(ours, mse, ours, theirs, adapter="none")
    return (Stage("feature", trains, (term,), epochs, LOSS),)


def _read_by_head(net: BlockNet) -> str:
    heads = net.of_role("head")
    read = {feature for name in heads for feature in net.blocks[name].reads} - {*heads, IMAGE}
    if len(read) != 1:
        raise UserError(
            f"method=simkd matches the feature that the head reads; {', '.join(heads) or 'no head'}"
            f" reads {', '.join(sorted(read)) or 'none'}; cut the networks before their heads"
        )
    return read.pop()
