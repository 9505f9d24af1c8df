"""Stages whose blocks read the teacher's features."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stagewise_kd.cache.budget import Caching
from stagewise_kd.methods.checks import check_plan, into
from stagewise_kd.methods.losses import mse
from stagewise_kd.methods.plan import LOSS, Stage, Term
from stagewise_kd.runs.experiment import run_experiment
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.run_folder import open_run
from tests.conftest import tiny_net
from tests.engine import SHAPE, experiment, make_setup

FLOAT32 = Caching(2, dtype="float32")


def trained(folder: Path, setup, **options) -> dict[str, torch.Tensor]:
    with open_run(folder) as run:
        run_experiment(experiment(setup, epochs=2, **options), run)
    return load_file(folder / "student" / "model.safetensors")


def part(weights: dict[str, torch.Tensor], block: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in weights.items() if name.startswith(f"{block}.")}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        value.equal(other[name]) for name, value in one.items()
    )


@pytest.mark.parametrize("cache", [None, FLOAT32])
@pytest.mark.parametrize("schedule", ["sequential", "concurrent"])
@pytest.mark.parametrize(("fed", "independent"), [("teacher", True), ("student", False)])
def test_a_block_fed_by_the_teacher_depends_on_no_other(
    tmp_path, schedule, fed, independent, cache
):
    found = []
    for name in ("one", "other"):
        setup = make_setup(cache=cache)
        if name == "other":
            setup.student.blocks["a"].module.load_state_dict(
                tiny_net(seed=9).blocks["a"].module.state_dict()
            )
        found.append(trained(tmp_path / name, setup, schedule=schedule, fed=fed))
    assert not same(part(found[0], "a"), part(found[1], "a"))
    assert same(part(found[0], "b"), part(found[1], "b")) == independent


def test_the_first_block_reads_the_image_either_way(tmp_path):
    weights = [trained(tmp_path / fed, make_setup(), fed=fed) for fed in ("student", "teacher")]
    assert same(part(weights[0], "a"), part(weights[1], "a"))


@pytest.mark.parametrize("schedule", ["sequential", "concurrent"])
def test_one_pass_of_the_teacher_fills_the_cache(tmp_path, schedule):
    """Each of its blocks runs once a view; the student's never, but for the stage on labels."""
    setup = make_setup(cache=FLOAT32, graft=False)
    ran: dict[str, int] = {}

    def count(who: str, block):
        def hook(module, given, found):
            if module is block and not torch.is_grad_enabled():  # no copy that is tried out
                ran[who] = ran.get(who, 0) + len(found)

        return block.register_forward_hook(hook)

    handles = [
        count(f"{who} {name}", net.blocks[name].module)
        for who, net in (("student", setup.student), ("teacher", setup.teacher))
        for name in ("a", "b")
    ]
    plan = experiment(setup, epochs=2, schedule=schedule, fed="teacher")
    plan = replace(plan, plan=tuple(s for s in plan.plan if not s.sees_labels))
    with open_run(tmp_path / "run") as folder:
        run_experiment(plan, folder)
    for handle in handles:
        handle.remove()
    images = 2 * 48 + 24  # two views of train, one of val
    validated = 2 * 24 * (2 if schedule == "concurrent" else 1)
    rest = 2 + 2 + 24  # the check of the plan, the survey of the cache, the score at the end
    rest += 2 + 23  # the cost, and its latency
    checked = 24  # is the teacher better than chance?
    assert ran["teacher a"] == ran["teacher b"] == images + checked + rest
    assert ran["student a"] == ran["student b"] == validated + rest


def test_other_widths_get_an_adapter_in_front(tmp_path):
    setup = make_setup(teacher_width=6)
    weights = trained(tmp_path / "run", setup, fed="teacher")
    assert not [name for name in weights if "into" in name]
    stage = load_file(tmp_path / "run" / "stages" / "01-b" / "best.safetensors")
    assert stage[f"adapters.{into('a')}.weight"].shape == (4, 6, 1, 1)  # the teacher's to ours
    assert stage["adapters.b.weight"].shape == (12, 8, 1, 1)  # and back
    assert not stage[f"adapters.{into('a')}.weight"].requires_grad
    fresh = check_plan(experiment(setup, fed="teacher").plan, setup.student, setup.teacher, SHAPE)
    assert [*fresh["b"]] == ["b", into("a")]


def test_what_the_teacher_cannot_feed():
    setup = make_setup()
    terms = (Term("b", mse, "b", "b"),)
    stage = Stage("b", ("b",), terms, 1, LOSS, fed="teacher", match=(("b", "b"),))
    for match, words in (
        ((("a", "z"), ("b", "b")), "the teacher has no feature 'z', which stands for 'a'"),
        ((("a", "b"), ("b", "b")), r"reads 'a', \(4, 4, 4\), .* 'b', \(8, 2, 2\), cannot"),
    ):
        with pytest.raises(UserError, match=words):
            check_plan((replace(stage, match=match),), setup.student, setup.teacher, SHAPE)
    with pytest.raises(UserError, match=r"method\.fed=me: give student or teacher"):
        experiment(setup, fed="me")
