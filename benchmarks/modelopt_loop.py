"""The same stages in NVIDIA's Model Optimizer: features by its distillation mode `layerwise_kd`."""

from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from benchmarks.loops import BatchLoss, train_epoch, train_only, validate, whole_loss
from benchmarks.meter import Meter, Spent
from benchmarks.problem import Networks, Problem
from benchmarks.torchdistill_loop import Whole
from stagewise_kd.methods.plan import Plan, Stage
from stagewise_kd.system.names import Config

AT_ONCE = "features"

installed = find_spec("modelopt") is not None


def modelopt(
    problem: Problem, networks: Networks | None = None, epochs: int | None = 1
) -> dict[str, Spent]:
    """The stages by the engine's precision and recipe; no teacher on labels.

    In a stage of features every block that learns reads what the teacher's block reads.

    Args:
        problem: what is trained; a block of the student's is as wide as its teacher's.
        networks: to train and to learn from; None: fresh ones.
        epochs: to run of each stage, which stand for all; None: all.
    """
    import modelopt.torch.distill as mtd

    meter = Meter(problem.setup.device)
    student, teacher = (Whole(net) for net in networks or problem.networks())
    meter.start()
    for stage in problem.plan:
        run = partial(run_stage, problem, stage, student, epochs or stage.epochs, meter)
        if stage.sees_labels:
            run(partial(whole_loss, stage, student.net, teacher.net))
        else:
            distilled = mtd.convert(student, [("layerwise_kd", options(stage, student, teacher))])
            run(partial(layerwise_loss, distilled))
            mtd.export(distilled)  # takes the hooks off the student
    return meter.spent(epochs and problem.epochs)


def modelopt_at_once(problem: Problem) -> dict[str, Spent]:
    """All features in one stage of as many epochs as each has; its seconds in equal parts."""
    found = modelopt(replace(problem, plan=at_once(problem.plan, problem.epochs)))
    joint, features = found.pop(AT_ONCE), [s.name for s in problem.plan if not s.sees_labels]
    part = replace(joint, seconds=joint.seconds / len(features))
    return dict.fromkeys(features, part) | found


def at_once(plan: Plan, epochs: int) -> Plan:
    """The same features in one stage of so many epochs, then the rest on labels."""
    features = [stage for stage in plan if not stage.sees_labels]
    joint = replace(
        features[0],
        name=AT_ONCE,
        trains=tuple(name for stage in features for name in stage.trains),
        terms=tuple(term for stage in features for term in stage.terms),
        epochs=epochs,
    )
    return joint, *(stage for stage in plan if stage.sees_labels)


def options(stage: Stage, student: Whole, teacher: Whole) -> Config:
    """What the mode takes: a loss for each pair of blocks, of which the mean is trained on."""
    import modelopt.torch.distill as mtd

    pairs = [(student.path(term.student), teacher.path(term.teacher)) for term in stage.terms]
    return {
        "teacher_model": teacher,
        "criterion": {pair: nn.MSELoss() for pair in pairs},
        "loss_balancer": mtd.StaticLossBalancer([1 / len(pairs)] * len(pairs)),
    }


def layerwise_loss(distilled: Any, images: Tensor, labels: Tensor) -> Tensor:
    """Loss of a batch on which both networks run as a whole."""
    distilled(images)
    return distilled.compute_kd_loss()


def run_stage(
    problem: Problem,
    stage: Stage,
    student: Whole,
    epochs: int,
    meter: Meter,
    loss: BatchLoss,
) -> None:
    """Train the blocks of a stage, and validate after every epoch."""
    fitting: Any = problem.setup.fitting  # the default recipe has a scheduler
    optimizer = fitting.optimizer(train_only(student.net, stage.trains))
    scheduler = fitting.scheduler(optimizer, total_steps=stage.epochs * problem.steps)
    for _ in range(epochs):
        train_only(student.net, stage.trains)
        train_epoch(problem, fitting.precision, loss, optimizer, scheduler)
        student.eval()
        validate(problem, fitting.precision, loss)
        meter.lap(stage.name)
