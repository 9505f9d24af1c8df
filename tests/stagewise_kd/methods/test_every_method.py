"""Every method that is shipped, on the networks of both tasks: composed, built, one batch."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from cls_kd.task import Classification
from seg_kd.task import Segmentation
from stagewise_kd.cache.budget import Demand, survey
from stagewise_kd.data.batches import ready
from stagewise_kd.data.loaders import Batch
from stagewise_kd.methods.checks import check_plan
from stagewise_kd.methods.method import about, method_names
from stagewise_kd.networks.headed import with_head
from stagewise_kd.networks.segmenters import segmenter
from stagewise_kd.runs.composing import composing, config_folder
from stagewise_kd.runs.config import resolved
from stagewise_kd.training.stage_module import StageModule
from tests.conftest import tiny_net

NAMES = sorted(path.stem for path in (Path(config_folder("shared")) / "method").glob("*.yaml"))
SHAPE = (3, 16, 16)


def unet(seed: int):
    torch.manual_seed(seed)
    small = {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}
    return segmenter("unet", "resnet10", 3, width=0.25, arguments=small)


TASKS = {
    "cls": (Classification(3), lambda: (tiny_net(), tiny_net(seed=1))),
    "cls, other widths": (Classification(3), lambda: (tiny_net(), tiny_net(6))),
    "seg": (Segmentation("abc"), lambda: (unet(0), unet(1))),
}


def plan_of(kind: str, name: str):
    """The plan of a shipped config with its own settings, as a run builds it, and its networks."""
    task, make = TASKS[kind]
    student, teacher = make()
    for net in (student, teacher):
        net.measure(SHAPE)
    with composing(kind.split(",")[0]) as compose:
        method = instantiate(resolved(compose([f"method={name}"]))["method"])
    if about(method).keeps_head:
        student = with_head(student, teacher, SHAPE)
        student.measure(SHAPE)
    return method(task, student, teacher, epochs=1), student, teacher


def step(stage, student, teacher, adapters, task) -> tuple[float, set[str]]:
    """One step of a stage on one batch: its loss, and the parameters that have a gradient."""
    module = StageModule(stage, student, teacher, adapters, task, torch.optim.Adam, None, 0)
    images = torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8)
    shape = (4, *SHAPE[1:]) if isinstance(task, Segmentation) else (4,)
    labels = torch.randint(0, 3, shape)
    batch = ready(Batch(images, labels=labels, student={}, teacher={}), False)
    teacher.eval().requires_grad_(False)
    terms, _ = module.losses(batch)
    loss = torch.stack([*terms.values()]).sum()
    loss.backward()
    learns = {name for name in student.names if _has_gradient(student.blocks[name].module)}
    student.zero_grad()
    return loss.item(), learns


def _has_gradient(block) -> bool:
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in block.parameters())


def test_every_method_has_a_config_and_every_config_a_method():
    assert method_names() == NAMES


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_every_stage(kind, name):
    plan, student, teacher = plan_of(kind, name)
    nets = {"student": student, "teacher": teacher}
    costs = {who: survey(net, SHAPE) for who, net in nets.items()}
    adapters = check_plan(plan, student, teacher, SHAPE)
    before = {key: value.clone() for key, value in teacher.model.state_dict().items()}
    for stage in plan:
        loss, learns = step(stage, student, teacher, adapters[stage.name], TASKS[kind][0])
        assert loss == loss and loss > 0
        assert learns == {n for n in stage.trains if [*student.blocks[n].module.parameters()]}
        demand = Demand(stage, nets, costs, 768)
        assert demand.speedup(demand.columns) >= 1
    assert all(value.equal(before[key]) for key, value in teacher.model.state_dict().items())
    assert all(p.grad is None for p in teacher.model.parameters())
