import gc
import json
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stagewise_kd.cache.budget import Caching, Demand, choose, survey
from stagewise_kd.cache.feeds import FeatureCache
from stagewise_kd.data.loaders import Column
from stagewise_kd.data.sampling import View
from stagewise_kd.methods.losses import mse
from stagewise_kd.methods.plan import LOSS, Stage, Term
from stagewise_kd.runs.experiment import run_experiment
from stagewise_kd.system.run_folder import open_run
from stagewise_kd.training.setup import Setup
from tests.conftest import Pictures, tiny_net
from tests.engine import SHAPE, experiment, make_setup
from tests.stagewise_kd.training.test_resume import finish, start
from tests.stagewise_kd.training.test_stages import assert_same_run

MAPS = Path("/proc/self/maps")
EXACT = Caching(views=9, dtype="float32")


def run(out: Path, caching: Caching | None, images: int = 48, **options) -> dict:
    setup = make_setup(6, cache=caching, graft=False)
    setup = replace(setup, data=replace(setup.data, train=Pictures(images, 0)))
    with open_run(out) as folder:
        return run_experiment(experiment(setup, **options), folder)


def student(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "student" / "model.safetensors")


def assert_same_student(one: Path, other: Path, **tolerance: float) -> None:
    ours, theirs = student(one), student(other)
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], **tolerance)


def ran(setup: Setup) -> list[str]:
    """Notes which blocks run, as "student.a"."""
    names: list[str] = []
    for owner, net in (("student", setup.student), ("teacher", setup.teacher)):
        for name, block in net.blocks.items():
            block.module.register_forward_hook(lambda *_, n=f"{owner}.{name}": names.append(n))
    return names


def match(name: str) -> Stage:
    return Stage(name, (name,), (Term(name, mse, name, name),), 3, LOSS)


def cache_of(setup: Setup, folder: Path, caching: Caching = EXACT) -> FeatureCache:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text("tiny: true\n")
    nets = {"student": setup.student, "teacher": setup.teacher}
    device = torch.device("cpu")
    return FeatureCache(caching, nets, setup.data, device, "32-true", (16, 0), folder)


@pytest.mark.parametrize("schedule", ["sequential", "concurrent"])
def test_cached_and_uncached_are_the_same_run(tmp_path, schedule):
    """With as many views as epochs, in float32; the last stage is not cached and sees new views."""
    for name, caching in (("cached", EXACT), ("uncached", None)):
        run(tmp_path / name, caching, schedule=schedule, finetune_epochs=1)
    assert_same_student(tmp_path / "cached", tmp_path / "uncached", rtol=1e-5, atol=1e-6)


class Counted(Pictures):
    """Pictures that count how often one of them is loaded."""

    loaded = 0

    def __getitem__(self, key):
        self.loaded += 1
        return super().__getitem__(key)


def test_each_view_of_an_image_is_loaded_once_in_a_run(tmp_path):
    """By the first stage; labels for the head are kept then."""
    setup = make_setup(6, cache=Caching(views=2), graft=False)
    train = Counted(48, 0)
    setup = replace(setup, data=replace(setup.data, train=train))
    with open_run(tmp_path / "run") as folder:
        run_experiment(experiment(setup), folder)
    assert train.loaded == 2 * 48


def test_frozen_blocks_stay_bit_identical(tmp_path):
    """The block that a stage has trained fills the next stage's cache, in eval mode."""
    run(tmp_path / "run", EXACT)
    first, second = (
        load_file(tmp_path / "run" / "stages" / name / "best.safetensors")
        for name in ("00-a", "01-b")
    )
    assert all(
        value.equal(second[key]) for key, value in first.items() if key.startswith("model.a.")
    )


@pytest.mark.parametrize("budget_gb", [1e-9, 1.2e-5, 5e-5])
def test_what_does_not_fit_changes_nothing(tmp_path, budget_gb):
    whole = run(tmp_path / "whole", replace(EXACT, views=2))
    part = run(tmp_path / "part", replace(EXACT, views=2, budget_gb=budget_gb))
    sizes = [[stage["cache"]["bytes"] for stage in result["stages"]] for result in (whole, part)]
    assert all(size <= budget_gb * 1e9 for size in sizes[1])
    assert sum(sizes[1]) < sum(sizes[0])
    assert_same_student(tmp_path / "whole", tmp_path / "part", rtol=1e-5, atol=1e-6)


def test_steps_run_the_trained_block_alone(tmp_path):
    setup = make_setup(6)
    cache = cache_of(setup, tmp_path / "run")
    feeds = cache.feeds(match("b"))
    names = ran(setup)
    batch = feeds.train.__getitems__([View(0, 3), View(0, 1)])
    assert batch.image is None
    assert names == []
    assert set(batch.student) == {"a"}
    assert set(batch.teacher) == {"b"}


def test_features_are_those_of_their_samples_and_views(tmp_path):
    setup = make_setup(6)
    feeds = cache_of(setup, tmp_path / "run").feeds(match("b"))
    batch = feeds.train.__getitems__([View(2, 5), View(2, 40)])
    image = torch.stack([setup.data.train[5][0], setup.data.train[40][0]]) / 255
    expected = setup.student.features({"image": image}, {"a"})["a"]
    torch.testing.assert_close(batch.student["a"], expected)
    assert batch.student["a"].is_contiguous(memory_format=torch.channels_last)


def test_each_stage_is_filled_from_the_one_before(tmp_path):
    """All caches of a run cost one pass of each network a view."""
    setup = make_setup(6)
    cache = cache_of(setup, tmp_path / "run", replace(EXACT, views=1))
    cache.feeds(match("a"))
    names = ran(setup)
    cache.feeds(match("b"))
    assert set(names) == {"student.a", "teacher.b"}


def test_other_weights_are_never_served_old_features(tmp_path):
    setup = make_setup(6)
    old = cache_of(setup, tmp_path / "run").feeds(match("b")).train.__getitems__([0])
    with torch.no_grad():
        for parameter in setup.student.blocks["a"].module.parameters():
            parameter.add_(0.1)
    new = cache_of(setup, tmp_path / "run").feeds(match("b")).train.__getitems__([0])
    assert not new.student["a"].equal(old.student["a"])
    assert new.teacher["b"].equal(old.teacher["b"])


def test_torn_files_are_made_again_and_strangers_deleted(tmp_path):
    setup = make_setup(6)
    whole = cache_of(setup, tmp_path / "run").feeds(match("b")).train.__getitems__([0])
    folder = tmp_path / "run" / "cache"
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    (folder / ".half.123").write_bytes(b"x")
    names = {path.name for path in folder.iterdir()}
    again = cache_of(setup, tmp_path / "run").feeds(match("b")).train.__getitems__([0])
    assert again.student["a"].equal(whole.student["a"])
    assert {path.name for path in folder.iterdir()} == names - {".half.123"}


@pytest.mark.skipif(not MAPS.exists(), reason="needs Linux's /proc")
def test_tables_of_earlier_stages_are_let_go(tmp_path):
    deleted = {}

    class Watch:
        def log(self, stage, *_):
            lines = MAPS.read_text().splitlines()
            tables = [line for line in lines if "/cache/" in line]
            assert tables
            deleted[stage] = sum(line.endswith("(deleted)") for line in tables)

        def finish(self, *_):
            pass

    setup = make_setup(6, cache=Caching(views=2), graft=False, tracker=Watch())
    gc.collect()
    gc.disable()  # not by chance
    try:
        with open_run(tmp_path / "run") as folder:
            run_experiment(experiment(setup), folder)
    finally:
        gc.enable()
    assert deleted == {"a": 0, "b": 0, "head": 0}


def test_a_finished_run_keeps_no_cache(tmp_path):
    result = run(tmp_path / "run", Caching(dir=str(tmp_path / "elsewhere")))
    assert all(stage["cache"]["bytes"] > 0 for stage in result["stages"])
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_cache_left_by_a_run_killed_at_its_end_goes(tmp_path):
    run(tmp_path / "run", EXACT)
    (tmp_path / "run" / "result.json").unlink()
    (tmp_path / "run" / "cache").mkdir()
    (tmp_path / "run" / "cache" / "table").write_bytes(b"x")
    run(tmp_path / "run", EXACT)
    assert not (tmp_path / "run" / "cache").exists()


def test_a_full_disk_ends_in_one_warning_and_the_same_student(tmp_path, capsys):
    """A limit on the size of files stands for the full disk: writing fails in the same way."""
    options = {"images": 1200, "epochs": 1}
    run(tmp_path / "whole", replace(EXACT, views=1), **options)
    capsys.readouterr()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        result = run(tmp_path / "full", replace(EXACT, views=1), **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err
    assert said.count("warning: no feature cache") == 1
    assert "budget_gb is too small" not in said
    assert all(stage["cache"]["bytes"] == 0 for stage in result["stages"])
    assert not (tmp_path / "full" / "cache").exists()
    assert_same_student(tmp_path / "whole", tmp_path / "full", rtol=1e-5, atol=1e-6)


def demand(stage: Stage) -> Demand:
    nets = {"student": tiny_net(4), "teacher": tiny_net(6)}
    return Demand(stage, nets, {name: survey(net, SHAPE) for name, net in nets.items()}, 3 * 8 * 8)


def test_survey_counts_shapes_and_operations():
    found = survey(tiny_net(4), SHAPE)
    assert found["a"].shape == (4, 4, 4)
    assert found["a"].operations == 2 * 16 * 4 * 27  # 16 places, 4 filters of 27 weights
    assert found["head"].shape == (3,)


def test_what_saves_least_a_byte_is_left_out_first():
    wanted = demand(match("b"))
    sizes = {Column("student", "a"): 64, Column("teacher", "b"): 48}
    assert wanted.columns == set(sizes)
    assert choose(wanted, sizes, 112) == set(sizes)
    assert choose(wanted, sizes, 111) == {Column("teacher", "b")}  # saves two blocks, not one
    assert choose(wanted, sizes, 47) == set()


def test_a_stage_that_learns_labels_from_images_is_not_cached(task):
    label = Term("labels", task.label_loss, "logits")
    every = Stage("labels", ("a", "b", "head"), (label,), 1, task.monitor)
    head = replace(every, trains=("head",))
    assert not demand(every).cacheable
    assert demand(head).columns == {Column("student", "b"), Column("data", "labels")}


def test_skips_are_cached_too(task):
    """A block that reads two earlier ones, as in a U-Net, needs both."""
    from stagewise_kd.networks.blocks import Block, BlockNet

    net = tiny_net()
    both = [*net.blocks.values(), Block("up", torch.nn.Identity(), ("b", "a"))]
    assert BlockNet(net.model, both, (0,) * 3, (1,) * 3).frontier({"up"}, {"up"}) == {"a", "b"}


@pytest.mark.slow
def test_killed_while_the_cache_is_filled_equals_straight(tmp_path):
    finish(start(tmp_path / "straight", TEST_CACHE_VIEWS="3"))
    out = tmp_path / "run"
    process = start(out, TEST_CACHE_VIEWS="3")
    while process.poll() is None and not list(out.glob("cache/.*")):
        pass  # a tiny cache is filled in milliseconds
    process.send_signal(signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    assert list(out.glob("cache/.*"))
    finish(start(out, TEST_CACHE_VIEWS="3"))
    assert_same_run(tmp_path / "straight", out)
    stages = json.loads((out / "result.json").read_text())["stages"]
    assert [stage["cache"]["views"] for stage in stages] == [3, 3, 3, None]


@pytest.mark.slow
def test_two_processes_share_one_cache(tmp_path):
    finish(start(tmp_path / "run", TEST_DEVICES="2", TEST_CACHE_VIEWS="2"))
    stages = json.loads((tmp_path / "run" / "result.json").read_text())["stages"]
    assert all(stage["cache"]["bytes"] > 0 for stage in stages[:3])
    assert not (tmp_path / "run" / "cache").exists()
