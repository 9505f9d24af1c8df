"""The same schedule in torchdistill: one stage of its multi-stage box for each of ours."""

from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn
from torch.utils.data import RandomSampler

from benchmarks.loops import plain_loader, validate
from benchmarks.meter import Meter, Spent
from benchmarks.problem import Problem
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


def torchdistill(problem: Problem) -> dict[str, Spent]:
    """One epoch of every stage, in the precision of the engine; no teacher on labels."""
    from torchdistill.core.distillation import get_distillation_box

    device, precision = problem.setup.device, problem.setup.fitting.precision
    meter = Meter(device)
    networks = problem.networks()
    student, teacher = (Whole(net) for net in networks)
    stages = {
        f"stage{index}": stage_config(problem, stage, student, teacher)
        for index, stage in enumerate(problem.plan, 1)
    }
    data = {"train": problem.plain}
    box = get_distillation_box(teacher, student, data, stages, device, None, False, 1)
    meter.start()
    for epoch, stage in enumerate(problem.plan):
        box.pre_epoch_process(epoch=epoch)
        for images, labels, more in box.train_data_loader:
            with autocast(precision, device):
                loss = box.forward_process(images.to(device), labels.to(device), more)
            box.post_forward_process(loss=loss)
        validate(problem, stage, *networks, precision)
        meter.lap(stage.name)
        box.post_epoch_process()
    return meter.spent(problem.epochs)


def stage_config(problem: Problem, stage: Stage, student: Whole, teacher: Whole) -> Config:
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
    return {
        "num_epochs": 1,
        "train_data_loader": {"dataset_id": "train", "sampler": sampler, "kwargs": options},
        "student": {"frozen_modules": frozen, "forward_hook": {"output": [ours]}, **proc},
        "teacher": {"requires_grad": False, **hooks, **proc},
        "optimizer": {"key": "Adam", "kwargs": {"lr": 1e-4}},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {stage.name: loss}}},
    }
