import copy
import csv
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import lightning
import pytest
import torch
from safetensors.torch import load_file

from stagewise_kd.data.loaders import Batch, train_loader, val_loader
from stagewise_kd.methods.checks import check_plan
from stagewise_kd.methods.losses import mse
from stagewise_kd.methods.no_teacher import no_teacher
from stagewise_kd.methods.plan import LOSS, Stage, Term
from stagewise_kd.runs.experiment import run_experiment
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.run_folder import open_run
from stagewise_kd.training.stage_module import StageModule
from tests.conftest import Pictures
from tests.engine import SHAPE, experiment, make_setup, run_tiny


def bits(module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(before: dict[str, torch.Tensor], module) -> set[str]:
    return {key for key, value in module.state_dict().items() if not value.equal(before[key])}


def fit_stage(setup, stage: Stage, epochs: int = 2) -> StageModule:
    adapters = check_plan((stage,), setup.student, setup.teacher, SHAPE)[stage.name]
    fitting = setup.fitting
    module = StageModule(
        stage,
        setup.student,
        setup.teacher,
        adapters,
        setup.task,
        fitting.optimizer,
        fitting.scheduler,
        seed=0,
    )
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    loaders = train_loader(setup.data.train, 8, 0, 0), val_loader(setup.data.val, 8, 0)
    trainer.fit(module, *loaders)
    return module


def given(**features: torch.Tensor) -> Batch:
    """A batch of two whose features both networks know."""
    return Batch(None, features, features, torch.zeros(2))


def match(name: str, weight: float = 1.0) -> Stage:
    return Stage(name, (name,), (Term(name, mse, name, name, weight),), 2, LOSS)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*eval mode")
class TestStageModule:
    def test_only_the_trained_block_changes(self):
        setup = make_setup()
        student, teacher = bits(setup.student), bits(setup.teacher)
        fit_stage(setup, match("b"))
        expected = {key for key in student if key.startswith("model.b.")}
        assert changed(student, setup.student) == expected  # BatchNorm statistics included
        assert changed(teacher, setup.teacher) == set()
        assert not any(module.training for module in setup.teacher.modules())

    def test_modes_are_right_after_validation(self):
        setup = make_setup()
        module = fit_stage(setup, match("b"))
        module.train()
        training = {name for name, part in setup.student.model.named_modules() if part.training}
        assert training == {"b", "b.0", "b.1", "b.2"}

    def test_frozen_statistics_stay_and_weights_do_not(self):
        setup = make_setup()
        student = bits(setup.student)
        fit_stage(setup, replace(match("b"), norm="frozen"))
        expected = {key for key in student if key.startswith("model.b.")}
        kept = {key for key in expected if "running" in key or "tracked" in key}
        assert kept
        assert changed(student, setup.student) == expected - kept

    def test_later_blocks_never_run(self):
        setup = make_setup()
        ran = []
        for net in (setup.student, setup.teacher):
            for name, block in net.blocks.items():
                block.module.register_forward_hook(lambda *_, name=name: ran.append(name))
        module = fit_stage(setup, match("a"))
        ran.clear()
        module.losses(given(image=torch.rand(2, *SHAPE)))
        assert ran == ["a", "a"]

    def test_starts_from_given_features(self):
        setup = make_setup()
        module = fit_stage(setup, match("b"))
        image = torch.rand(2, *SHAPE)
        features = setup.teacher.features({"image": image}, {"a"})
        setup.student.blocks["a"].module.register_forward_hook(lambda *_: pytest.fail("a was run"))
        module.losses(given(**features))

    def test_with_cut_every_block_learns_from_its_own_term_alone(self):
        def gradients(terms: tuple[str, ...], cut: bool) -> torch.Tensor:
            setup = make_setup()
            parts = tuple(Term(name, mse, name, name) for name in terms)
            module = fit_stage(setup, Stage("s", terms, parts, 1, LOSS, cut), epochs=1).eval()
            setup.student.load_state_dict(make_setup().student.state_dict())
            image = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
            losses, _ = module.losses(given(image=image))
            module.zero_grad()
            sum(losses.values()).backward()
            return setup.student.blocks["a"].module[0].weight.grad.clone()

        alone = gradients(("a",), cut=False)
        assert gradients(("a", "b"), cut=True).equal(alone)
        assert not torch.allclose(gradients(("a", "b"), cut=False), alone)

    def test_the_loss_is_the_weighted_sum(self):
        setup = make_setup()
        module = fit_stage(setup, match("a", weight=0.25)).eval()
        image = torch.rand(2, *SHAPE)
        terms, _ = module.losses(given(image=image))
        with torch.no_grad():
            ours = setup.student.features({"image": image}, {"a"})["a"]
            theirs = setup.teacher.features({"image": image}, {"a"})["a"]
        assert terms["a"].item() == pytest.approx(0.25 * (ours - theirs).square().mean().item())

    def test_no_teacher_in_the_checkpoint(self):
        setup = make_setup(teacher_width=6)
        module = fit_stage(setup, match("a"))
        student = {f"student.{key}" for key in setup.student.state_dict()}
        assert set(module.state_dict()) == student | {"adapters.a.weight", "adapters.a.bias"}

    def test_optimizer_holds_the_stages_parameters_only(self):
        setup = make_setup(teacher_width=6)
        module = fit_stage(setup, match("a"))
        held = module.optimizers(use_pl_optimizer=False).param_groups[0]["params"]
        block = [*setup.student.blocks["a"].module.parameters(), *module.adapters.parameters()]
        assert {id(p) for p in held} == {id(p) for p in block}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "straight"
    run_tiny(out)
    return out


def curves(run: Path) -> list[tuple[dict, list[float]]]:
    """Each stage of a result, and what its monitor was in each epoch."""
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    stages = json.loads((run / "result.json").read_text())["stages"]
    found = []
    for stage in stages:
        wanted = stage["name"], f"val/{stage['best']['monitor']}"
        curve = [float(r["value"]) for r in rows if (r["stage"], r["name"]) == wanted]
        assert len(curve) == stage["epochs"]
        found.append((stage, curve))
    return found


class TestRun:
    def test_run_folder_is_complete(self, finished):
        files = {p.relative_to(finished).as_posix() for p in finished.rglob("*") if p.is_file()}
        stages = ["00-a", "01-b", "02-head", "03-finetune"]
        expected = {f"stages/{s}/{f}" for s in stages for f in ("best.safetensors", "stage.json")}
        expected |= {"config.yaml", "manifest.json", "metrics.csv", "result.json"}
        expected |= {f"student/{f}" for f in ("model.safetensors", "network.json", "README.md")}
        assert files - {".lock"} == expected

    def test_result_has_the_contracts_keys(self, finished):
        result = json.loads((finished / "result.json").read_text())
        assert {"student_metrics", "teacher_metrics", "cost", "stages", "seconds"} <= set(result)
        assert result["images_seen"] == 48 * (3 + 3 + 3 + 2)
        assert [stage["name"] for stage in result["stages"]] == ["a", "b", "head", "finetune"]
        assert ["graft" in stage for stage in result["stages"]] == [True, True, False, False]
        assert result["cost"]["student"]["params"] == 3 * 4 * 9 + 8 + 4 * 8 * 9 + 16 + 8 * 3 + 3

    def test_card_tells_the_result(self, finished):
        result = json.loads((finished / "result.json").read_text())
        card = (finished / "student" / "README.md").read_text()
        ours, theirs = result["student_metrics"], result["teacher_metrics"]
        assert f"| accuracy | {ours['accuracy']:.4f} | {theirs['accuracy']:.4f} |" in card
        assert f"| agreement | {ours['agreement']:.4f} |  |" in card
        assert f"| parameters | {result['cost']['student']['params']} |" in card
        assert f"- images seen: {result['images_seen']}, in" in card

    def test_student_is_the_last_stages_best_without_adapters(self, finished):
        student = load_file(finished / "student" / "model.safetensors")
        best = load_file(finished / "stages" / "03-finetune" / "best.safetensors")
        assert set(student) == {key.removeprefix("model.") for key in best}
        assert all(value.equal(best[f"model.{key}"]) for key, value in student.items())

    def test_best_epoch_is_the_monitors_and_the_last_where_labels_are_few(self, finished):
        for stage, curve in curves(finished):
            if stage["best"]["monitor"] == "loss":
                best = curve.index(min(curve))
            else:  # 24 validation images
                best = stage["epochs"] - 1
            assert stage["best"]["epoch"] == best
            assert stage["best"]["value"] == curve[best]

    def test_best_epoch_by_labels(self, tmp_path, capsys):
        setup = make_setup(optimizer=partial(torch.optim.Adam, lr=0.3), scheduler=None)
        setup = replace(setup, data=replace(setup.data, val=Pictures(100, 1)))
        plan = no_teacher(setup.task, setup.student, None, epochs=8)
        with open_run(tmp_path / "run") as run:
            run_experiment(replace(experiment(setup), plan=plan), run)
        ((stage, curve),) = curves(tmp_path / "run")
        assert curve.index(max(curve)) < 7  # the last one is another
        assert stage["best"]["epoch"] == curve.index(max(curve))
        assert "too few" not in capsys.readouterr().err

    def test_stages_hand_over_bit_for_bit(self, finished):
        first, second = (
            load_file(finished / "stages" / name / "best.safetensors") for name in ("00-a", "01-b")
        )
        kept = [key for key in first if key.startswith("model.a.")]
        assert kept
        assert all(first[key].equal(second[key]) for key in kept)

    def test_same_seed_same_result(self, finished, tmp_path):
        run_tiny(tmp_path / "again")
        assert_same_run(finished, tmp_path / "again")

    def test_finished_stages_are_not_trained_again(self, finished, tmp_path):
        import shutil

        shutil.copytree(finished, tmp_path / "copy")
        (tmp_path / "copy" / "result.json").unlink()
        run_tiny(tmp_path / "copy")
        assert_same_run(finished, tmp_path / "copy")


def assert_same_run(one: Path, other: Path) -> None:
    for file in sorted(one.rglob("*.safetensors")):
        ours, theirs = load_file(file), load_file(other / file.relative_to(one))
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert value.equal(theirs[key]), f"{file.name}: {key}"
    results = [json.loads((run / "result.json").read_text()) for run in (one, other)]
    for result in results:
        del result["seconds"], result["cost"]
        for stage in result["stages"]:
            del stage["seconds"]
            stage.pop("from", None)
    assert results[0] == results[1]
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()


def test_graft_score_of_a_perfect_copy_is_the_teachers(tmp_path):
    setup = make_setup()
    setup.student.load_state_dict(copy.deepcopy(setup.teacher.state_dict()))
    frozen = partial(torch.optim.SGD, lr=0.0)
    for block in setup.student.modules():
        if isinstance(block, torch.nn.BatchNorm2d):
            block.momentum = 0.0  # statistics stay too
    setup = make_setup_of(setup, optimizer=frozen, scheduler=None)
    with open_run(tmp_path / "run") as run:
        result = run_experiment(experiment(setup, epochs=1), run)
    from stagewise_kd.training.score import scores

    expected = scores({"teacher": setup.teacher}, setup.data.val, setup)["teacher"]
    assert [stage["graft"] for stage in result["stages"][:2]] == [expected, expected]


def make_setup_of(setup, **fitting):
    from dataclasses import replace

    return replace(setup, fitting=replace(setup.fitting, **fitting))


def test_graft_can_be_switched_off(tmp_path):
    with open_run(tmp_path / "run") as run:
        result = run_experiment(experiment(make_setup(graft=False), epochs=1), run)
    assert all("graft" not in stage for stage in result["stages"])


def test_divergence_is_said(tmp_path):
    setup = make_setup(optimizer=partial(torch.optim.SGD, lr=float("inf")), scheduler=None)
    with (
        open_run(tmp_path / "run") as run,
        pytest.raises(UserError, match="not a finite number; try a lower lr"),
    ):
        run_experiment(experiment(setup), run)


def test_a_bad_plan_leaves_nothing_behind(tmp_path):
    setup = make_setup(teacher_width=6)
    with (
        pytest.raises(UserError, match="adapter=conv1x1"),
        open_run(tmp_path / "deep" / "run") as run,
    ):
        run_experiment(experiment(setup, adapter="none"), run)
    assert list(tmp_path.iterdir()) == []


def test_concurrent_takes_as_many_epochs_as_the_stages_together(tmp_path):
    with open_run(tmp_path / "run") as run:
        result = run_experiment(experiment(make_setup(6), epochs=2, schedule="concurrent"), run)
    first, last = result["stages"]
    assert (first["name"], first["epochs"], first["images_seen"]) == ("features", 4, 4 * 48)
    assert set(first["graft"]) == {"accuracy", "balanced_accuracy"}
    assert (last["name"], last["epochs"]) == ("head", 2)
    adapters = load_file(tmp_path / "run" / "stages" / "00-features" / "best.safetensors")
    assert {"adapters.a.weight", "adapters.b.weight"} <= set(adapters)


def test_stages_that_compare_with_the_teacher_see_the_unlabelled_images_too(tmp_path):
    from dataclasses import replace

    setup = make_setup()
    setup = replace(setup, data=replace(setup.data, images=Pictures(80, 3)))
    with open_run(tmp_path / "run") as run:
        result = run_experiment(experiment(setup, epochs=1, finetune_epochs=1), run)
    assert [stage["images_seen"] for stage in result["stages"]] == [80, 80, 48, 80]


@pytest.mark.parametrize("works", [True, False])
def test_compiled_blocks_learn_the_same_or_are_done_without(tmp_path, capsys, monkeypatch, works):
    if not works:
        torch._dynamo.reset()
        monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
        monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/nowhere/c++",))
    for name, compile in (("plain", False), ("compiled", True)):
        with open_run(tmp_path / name) as run:
            run_experiment(experiment(make_setup(6, compile=compile), epochs=1), run)
    said = capsys.readouterr().err
    assert ("compile=true does not work here" in said) is not works
    plain, compiled = (
        load_file(tmp_path / name / "student" / "model.safetensors")
        for name in ("plain", "compiled")
    )
    for key, value in plain.items():
        torch.testing.assert_close(value, compiled[key], rtol=1e-4, atol=1e-5)


def test_means_of_a_loss_in_half_precision_count_every_batch():
    setup = make_setup()
    stage = Stage("a", ("a",), (Term("one", mse, "a", "a"),), 1, LOSS)
    module = StageModule(
        stage, setup.student, setup.teacher, torch.nn.ModuleDict(), setup.task, None, None, 0
    )
    batch = Batch(None, {}, {}, torch.zeros(8))
    for _ in range(300):  # 2,400 images; of bfloat16 the largest whole numbers in a row end at 256
        module._add("train", {"one": torch.tensor(1.0, dtype=torch.bfloat16)}, batch)
    assert module._sums["train"].tolist() == [2400, 2400]
