from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from benchmarks import modelopt_loop, torchdistill_loop
from benchmarks.loops import plain_loader, train_only
from benchmarks.modelopt_loop import at_once
from benchmarks.peers import row, ways
from benchmarks.problem import Problem, classification
from benchmarks.stagewise import parse, variants
from stagewise_kd.methods.plan import Stage
from stagewise_kd.networks.blocks import IMAGE, LOGITS
from stagewise_kd.networks.resnet import FEATURES

TINY = (
    "--student resnet10 --teacher resnet14 --size 16 --images 20 --batch 9 --epochs 1 --device cpu"
)

modelopt = pytest.mark.skipif(not modelopt_loop.installed, reason="nvidia-modelopt is missing")
torchdistill = pytest.mark.skipif(not torchdistill_loop.installed, reason="torchdistill is missing")
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")


def tiny(*overrides: str) -> Problem:
    return classification(parse(TINY.split()), "trainer.precision=32-true", *overrides)


def learned(problem: Problem, train, **options) -> dict[str, torch.Tensor]:
    """What is in the student after one epoch of the plan's first stage."""
    networks = problem.networks()
    torch.manual_seed(0)
    train(replace(problem, plan=problem.plan[:1]), networks, **options)
    return networks[0].state_dict()


def by_hand(problem: Problem, networks, fed: str) -> None:
    """A step on each batch, in which a block reads features of the student or of the teacher."""
    student, teacher = networks
    (stage,) = problem.plan
    optimizer = torch.optim.Adam(train_only(student, stage.trains), lr=1e-3, fused=True)
    total = stage.epochs * problem.steps
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=total)
    for images, _ in plain_loader(problem):
        theirs = teacher.features({IMAGE: images}, set(FEATURES))
        if fed == "teacher":
            given = {IMAGE: images} | theirs
            ours = {
                name: student.features({k: x for k, x in given.items() if k != name}, {name})[name]
                for name in stage.trains
            }
        else:  # torchdistill leaves BatchNorm of frozen blocks in train mode
            ours = student.train().features({IMAGE: images}, {*stage.trains, LOGITS})
        losses = [F.mse_loss(ours[name], theirs[name]) for name in stage.trains]
        optimizer.zero_grad()
        sum(loss / len(losses) for loss in losses).backward()
        optimizer.step()
        scheduler.step()


def alone(stage: Stage, problem: Problem) -> Problem:
    return replace(problem, plan=(stage,))


@modelopt
@pytest.mark.parametrize("which", ["layer1", "all"])
def test_modelopt_trains_blocks_on_what_the_teacher_reads_and_nothing_else(which):
    problem = tiny()
    problem = alone(at_once(problem.plan, 1)[0] if which == "all" else problem.plan[1], problem)
    found = learned(problem, modelopt_loop.modelopt, epochs=1)
    wanted = learned(problem, by_hand, fed="teacher")
    start = problem.setup.student.state_dict()
    assert all(found[name].equal(wanted[name]) for name in start)
    changed = {name.split(".")[1] for name in start if not found[name].equal(start[name])}
    assert changed == ({"conv1", "bn1", *FEATURES[1:]} if which == "all" else {"layer1"})


@torchdistill
def test_torchdistill_trains_a_block_behind_the_students_own():
    problem = alone(tiny().plan[1], tiny())
    found = learned(problem, torchdistill_loop.torchdistill, epochs=1)
    wanted = learned(problem, by_hand, fed="student")
    start = problem.setup.student.state_dict()
    assert all(found[name].equal(wanted[name]) for name in start)
    changed = {
        n.split(".")[1]
        for n, _ in problem.setup.student.named_parameters()
        if not found[n].equal(start[n])
    }
    assert changed == {"layer1"}


@modelopt
def test_what_modelopt_takes_for_all_features_at_once_is_told_in_equal_parts():
    problem = tiny()
    spent = modelopt_loop.modelopt_at_once(problem)
    assert {*spent} == {stage.name for stage in problem.plan}
    assert len({spent[name] for name in FEATURES}) == 1


@pytest.mark.slow
def test_every_peer_trains_a_student_that_is_scored():
    problem = tiny()
    for way, (trained, train) in ways(problem, tiny("schedule=concurrent")).items():
        epochs, _, score = row(trained, train).split(" | ")
        assert int(epochs) == (1 if way == "modelopt" else 5)
        assert score.endswith("%")


def test_the_table_of_seconds_has_every_peer_or_tells_that_it_is_missing():
    chosen, notes = variants(tiny())
    assert ({"f", "f'"} <= {*chosen}) == modelopt_loop.installed
    assert ("b" in chosen) == torchdistill_loop.installed
    missing = [note for note in notes if "is not installed" in note]
    assert len(missing) == (not modelopt_loop.installed) + (not torchdistill_loop.installed)
