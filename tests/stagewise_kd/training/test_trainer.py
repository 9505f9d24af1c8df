import pytest

from stagewise_kd.runs.experiment import run_experiment
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.run_folder import open_run
from stagewise_kd.training.trainer import check_trainer
from tests.engine import experiment, make_setup

CPU = {"accelerator": "cpu", "devices": 1, "precision": "32-true"}


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("max_steps", 2, "trainer.max_steps: the run sets it itself; for the length, set epochs=N"),
        ("max_time", "00:00:00:00", "for the length, set epochs=N"),
        ("enable_checkpointing", False, "trainer.enable_checkpointing: the run sets it itself"),
        ("barebones", True, "trainer.barebones: the run sets it itself"),
        ("fast_dev_run", True, "for a quick look, set epochs=1"),
        ("num_nodes", 2, "for several machines, run a study"),
        ("val_check_interval", 0.5, "others every epoch"),
        ("strategy", "ddp_spawn", "trainer.strategy=ddp_spawn: give auto or ddp"),
        ("accelerator", "tpu", "does not take that: .*torch_xla"),
        ("limit_train_batches", 0, "trainer.limit_train_batches=0: every epoch trains"),
        ("accumulate_grad_batches", -1, "accumulate_grad_batches=-1: give a whole number from 1"),
        ("accumulate_grad_batches", "a", "accumulate_grad_batches=a: give a whole number from 1"),
        ("gradient_clip_val", -1, "trainer.gradient_clip_val=-1: give a number from 0 up"),
        ("plugins", [], "trainer.plugins: the run sets it itself"),
        ("limit_val_batches", 1.5, "does not take that: .*1.5"),
        ("depth", 3, "does not take that: .*depth"),
    ],
)
def test_options_that_cannot_work(option, value, words):
    with pytest.raises(UserError, match=words):
        check_trainer({**CPU, option: value})


def test_all_faults_at_once():
    with pytest.raises(UserError, match=r"(?s)max_steps.*precision=8.*strategy=fsdp"):
        check_trainer({**CPU, "max_steps": 2, "strategy": "fsdp", "precision": "8"})


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"limit_val_batches": 0.5}, "limit_val_batches=0.5: is less than one of 1 batch; give"),
        ({"limit_train_batches": 0.1}, "limit_train_batches=0.1: is less than one of 6 batches"),
    ],
)
def test_a_share_of_less_than_a_batch_is_refused_before_anything_is_written(
    tmp_path, limits, words
):
    made = experiment(make_setup(trainer=CPU | limits))
    with open_run(tmp_path / "run") as run, pytest.raises(UserError, match=words):
        run_experiment(made, run)
    assert not (tmp_path / "run").exists()


def test_a_stage_that_lightning_ends_early_is_not_finished(tmp_path):
    made = experiment(make_setup(trainer=CPU | {"max_steps": 8}))  # 6 steps an epoch
    with (
        open_run(tmp_path / "run") as run,
        pytest.raises(UserError, match="stage 'a': Lightning ended it after 2 of 3 epochs"),
    ):
        run_experiment(made, run)
    assert not (tmp_path / "run" / "result.json").exists()
    assert not (tmp_path / "run" / "stages" / "00-a" / "stage.json").exists()
