"""The same schedule in torchdistill: one stage of its multi-stage box for each of ours."""

from functools import partial
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn
from torch.utils.data import RandomSampler

from benchmarks.loops import plain_loader, validate, whole_loss
from benchmarks.meter import Meter, Spent
from benchmarks.problem import Networks, Problem
from stagewise_kd.methods.plan import Stage, Term
from stagewise_kd.networks.blocks import LOGITS, BlockNet
from stagewise_kd.system.precision import autocast

Config = dict[str, Any]

installed = find_spec("torchdistill") is not None


class Whole(nn.Module):
    """A network whose blocks torchdistill can name, as blocks.stem and so on."""

    def __init__(self, net: BlockNet) -> None:
        super().__init__()
        self.net = net
        self.blocks = nn.ModuleDict({name: block.module for name, block in net.blocks.items()})

    def path(self, feature: str) -> str:
        """Path of the block that gives a feature."""
        return f"blocks.{self.net.names[-1] if feature == LOGITS else feature}"

    def forward(self, image: Tensor) -> Tensor:
        """Logits of images (B, C, H, W) in [0, 1]."""
        return self.net(image)


class TermLoss(nn.Module):
    """A term of ours on the outputs that torchdistill's hooks collect."""

    def __init__(self, term: Term, student: str, teacher: str | None) -> None:
        super().__init__()
        self._term, self._student, self._teacher = term, student, teacher

    def forward(self, student: Config, teacher: Config, labels: Tensor) -> Tensor:
        """Loss of one batch."""
        target = labels if self._teacher is None else teacher[self._teacher]["output"]
        return self._term.loss(student[self._student]["output"], target)


def torchdistill(
    problem: Problem, networks: Networks | None = None, epochs: int | None = 1
) -> dict[str, Spent]:
    """The stages by the engine's precision and recipe; no teacher on labels.

    Args:
        problem: what is trained.
        networks: to train and to learn from; None: fresh ones.
        epochs: to run of each stage, which stand for all; None: all.
    """
    from torchdistill.core.distillation import get_distillation_box

    device, precision = problem.setup.device, problem.setup.fitting.precision
    meter = Meter(device)
    networks = networks or problem.networks()
    student, teacher = (Whole(net) for net in networks)
    stages = {
        f"stage{index}": stage_config(problem, stage, student, teacher, epochs or stage.epochs)
        for index, stage in enumerate(problem.plan, 1)
    }
    data = {"train": problem.plain}
    box = get_distillation_box(teacher, student, data, stages, device, None, False, 1)
    meter.start()
    run = [stage for stage in problem.plan for _ in range(epochs or stage.epochs)]
    for epoch, stage in enumerate(run):
        box.pre_epoch_process(epoch=epoch)
        for images, labels, more in box.train_data_loader:
            with autocast(precision, device):
                loss = box.forward_process(images.to(device), labels.to(device), more)
            box.post_forward_process(loss=loss)
        student.eval()
        validate(problem, precision, partial(whole_loss, stage, *networks))
        meter.lap(stage.name)
        box.post_epoch_process()
    return meter.spent(epochs and problem.epochs)


def stage_config(
    problem: Problem, stage: Stage, student: Whole, teacher: Whole, epochs: int
) -> Config:
    """What torchdistill takes for one of our stages."""
    (term,) = stage.terms
    ours = student.path(term.student)
    theirs = teacher.path(term.teacher) if term.teacher else None
    frozen = [student.path(name) for name in student.net.names if name not in stage.trains]
    empty = {"auxiliary_model_wrapper": {"key": "EmptyModule"}}  # in the teacher's place
    hooks = {"forward_hook": {"output": [theirs]}} if theirs else empty
    loss = {"criterion": TermLoss(term, ours, theirs), "weight": 1.0}
    loader = plain_loader(problem)
    options = {"batch_size": loader.batch_size, "drop_last": True}
    options |= {"num_workers": loader.num_workers, "pin_memory": loader.pin_memory}
    sampler = {"class_or_func": RandomSampler}
    proc = {"forward_proc": "forward_batch_only"}
    fitting: Any = problem.setup.fitting  # whose config made partials
    optimizer, scheduler = fitting.optimizer, fitting.scheduler
    length = {"total_steps": stage.epochs * problem.steps}
    return {
        "num_epochs": epochs,
        "train_data_loader": {"dataset_id": "train", "sampler": sampler, "kwargs": options},
        "student": {"frozen_modules": frozen, "forward_hook": {"output": [ours]}, **proc},
        "teacher": {"requires_grad": False, **hooks, **proc},
        "optimizer": {"key": optimizer.func.__name__, "kwargs": {**optimizer.keywords}},
        "scheduler": {
            "key": scheduler.func.__name__,
            "kwargs": scheduler.keywords | length,
            "scheduling_step": 1,
        },
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {stage.name: loss}}},
    }
