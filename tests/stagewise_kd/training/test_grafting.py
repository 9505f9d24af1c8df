"""Blocks that learn inside the teacher."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stagewise_kd.cache.budget import Caching
from stagewise_kd.methods.logit_losses import directions
from stagewise_kd.methods.netgraft import netgraft
from stagewise_kd.methods.plan import LOSS, Stage, Term
from stagewise_kd.runs.experiment import Experiment, run_experiment
from stagewise_kd.system.files import read_json
from stagewise_kd.system.run_folder import open_run
from tests.engine import make_setup
from tests.stagewise_kd.training.test_fed import part, same


def grafted(folder: Path, setup) -> dict[str, torch.Tensor]:
    plan = netgraft(setup.task, setup.student, setup.teacher, epochs=2)
    with open_run(folder) as run:
        run_experiment(Experiment(setup, plan, {"task": "classification"}, "tiny: true\n", {}), run)
    return load_file(folder / "student" / "model.safetensors")


def test_blocks_learn_alone_and_are_joined(tmp_path):
    setup = make_setup()
    before = {name: value.clone() for name, value in setup.teacher.model.state_dict().items()}
    weights = grafted(tmp_path / "run", setup)
    result = read_json(tmp_path / "run" / "result.json")
    assert [stage["name"] for stage in result["stages"]] == ["graft-a", "graft-b", "join-b"]
    assert [stage["best"]["monitor"] for stage in result["stages"]] == ["loss"] * 3
    assert all("accuracy" in stage["graft"] for stage in result["stages"])
    assert same(part(weights, "head"), part(before, "head"))
    assert same(before, setup.teacher.model.state_dict())
    first, second, last = (
        load_file(folder / "best.safetensors")
        for folder in sorted((tmp_path / "run" / "stages").iterdir())
    )
    assert same(part(first, "model.a"), part(second, "model.a"))
    assert not same(part(first, "model.b"), part(second, "model.b"))
    assert not same(part(second, "model.a"), part(last, "model.a"))


def test_cached_as_uncached(tmp_path):
    """Of one view, which does not change: the same weights from tables or made at each step."""
    plain = Caching(1, budget_gb=1e-9, dtype="float32")
    setups = [make_setup(cache=cache) for cache in (Caching(1, dtype="float32"), plain)]
    found = [grafted(tmp_path / str(n), setup) for n, setup in enumerate(setups)]
    result = [read_json(tmp_path / str(n) / "result.json")["stages"] for n in range(2)]
    assert all(stage["cache"]["bytes"] > 0 for stage in result[0])
    assert all(stage["cache"]["bytes"] == 0 for stage in result[1])
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-5) for name in found[0])


@pytest.mark.parametrize(("through", "runs"), [("a", ["b", "head"]), ("b", ["head"])])
def test_the_teacher_goes_on_from_the_students_feature(through, runs):
    teacher = make_setup().teacher
    term = Term("logits", directions, through, "logits", through=through)
    assert term.behind(teacher) == runs
    assert term.beside(teacher) == set()
    stage = Stage(through, (through,), (term,), 1, LOSS)
    assert stage.taken(make_setup().student, teacher) == {"logits"}
    assert stage.graftable
