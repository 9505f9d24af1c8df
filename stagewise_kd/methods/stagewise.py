"""Distillation methods: each is a function that makes a plan."""

from typing import Literal

from stagewise_kd.methods.hinton import softened
from stagewise_kd.methods.losses import mse, relative_mse
from stagewise_kd.methods.plan import LOSS, Adapter, Plan, Stage, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import LOGITS, BlockNet, copy_block
from stagewise_kd.system.errors import UserError

Schedule = Literal["sequential", "concurrent"]


def stagewise(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    features: list[str],
    n_features: int | None = None,
    head: Literal["labels", "teacher"] = "labels",
    finetune_epochs: int = 0,
    adapter: Adapter = "conv1x1",
    schedule: Schedule = "sequential",
    last: str = "head",
) -> Plan:
    """Match one feature after the other by MSE, then train the rest on labels.

    Kulkarni et al., "Data Efficient Stagewise Knowledge Distillation", arXiv 1911.06786.

    Args:
        task: gives the label loss.
        student: the network to train.
        teacher: the trained network.
        epochs: epochs of each stage.
        features: names of the blocks that are matched, in order.
        n_features: match only the first so many; the other blocks train with the head.
        head: "teacher" copies what is not matched from the teacher and sees no label.
        finetune_epochs: epochs of a last stage that trains everything on labels and softened
            logits; 0 for none.
        adapter: what to do where widths differ.
        schedule: "concurrent" matches all features at the same time, in one stage of as many
            epochs as the sequential stages have together; every block learns by itself, fed by
            the blocks before it, which learn too.
        last: name of the stage that trains what is not matched.

    Raises:
        UserError: the options do not fit the networks.
    """
    matched = _first(features, n_features)
    rest = tuple(name for name in student.names if name not in matched)
    plan = _matching(matched, epochs, adapter, schedule)
    if head == "teacher":
        _copy_rest(teacher, student, rest)
    elif head == "labels":
        label = Term("labels", task.label_loss, LOGITS)
        plan.append(Stage(last, rest, (label,), epochs, task.monitor))
    else:
        raise UserError(f"method.head={head}: give labels or teacher")
    if finetune_epochs:
        plan.append(softened("finetune", task, student, finetune_epochs))
    return tuple(plan)


def _matching(
    features: list[str], epochs: int, adapter: Adapter, schedule: Schedule
) -> list[Stage]:
    if schedule == "sequential":
        return [
            Stage(name, (name,), (Term(name, mse, name, name, adapter=adapter),), epochs, LOSS)
            for name in features
        ]
    if schedule != "concurrent":
        raise UserError(f"schedule={schedule}: give sequential or concurrent")
    terms = tuple(Term(name, relative_mse, name, name, adapter=adapter) for name in features)
    total = epochs * len(features)
    return [Stage("features", tuple(features), terms, total, LOSS, cut=True)]


def _first(features: list[str], count: int | None) -> list[str]:
    if count is None:
        return features
    if not 1 <= count <= len(features):
        raise UserError(f"method.n_features={count}: give 1 to {len(features)}")
    return features[:count]


def _copy_rest(teacher: BlockNet, student: BlockNet, rest: tuple[str, ...]) -> None:
    for name in rest:
        try:
            copy_block(teacher, student, name)
        except (KeyError, RuntimeError) as error:
            raise UserError(
                f"method.head=teacher: the teacher's {name!r} does not fit the student "
                f"({str(error).splitlines()[-1].strip()}); use method.head=labels, or a student "
                "of the teacher's shape, such as student.head=linear for a linear head"
            ) from None
