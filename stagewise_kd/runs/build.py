"""From a resolved config to its experiment."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

from stagewise_kd.cache.budget import Caching
from stagewise_kd.data.identity import source_hash
from stagewise_kd.data.loaders import Data
from stagewise_kd.data.samples import Source
from stagewise_kd.methods.checks import check_plan
from stagewise_kd.methods.method import about
from stagewise_kd.methods.plan import Plan, in_steps
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.headed import with_head
from stagewise_kd.networks.inheriting import inherit
from stagewise_kd.networks.layout import Shape
from stagewise_kd.networks.matching import matched
from stagewise_kd.networks.starting import start_from
from stagewise_kd.runs.config import untracked
from stagewise_kd.runs.experiment import Experiment
from stagewise_kd.runs.foreign import check_of, val_may_be_seen
from stagewise_kd.runs.front_end import FrontEnd, load_data
from stagewise_kd.runs.method import method_of, stage_length, within_budget
from stagewise_kd.runs.overrides import WORDS
from stagewise_kd.runs.own_networks import measure
from stagewise_kd.runs.shrunk import Start, shrunk_student
from stagewise_kd.runs.teacher import needs_teacher, trained_teacher
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import read_json
from stagewise_kd.system.names import SHRUNK, Config, method_name, student_name
from stagewise_kd.tracking.trackers import no_tracker
from stagewise_kd.training.optimizing import check_optimizing
from stagewise_kd.training.setup import Fitting, Setup

STAGES = Path("runs") / "stages"  # where runs tell one another of theirs


def build(front_end: FrontEnd, config: Config, text: str, out: Path) -> Experiment:
    """The experiment of a resolved config; trains the teacher first where there is none.

    Args:
        front_end: of the task.
        config: the resolved config.
        text: the same as YAML.
        out: the run folder.

    Raises:
        UserError: anything in the config or the data is wrong.
    """
    torch.manual_seed(config["seed"])
    data, source = load_data(front_end, config)
    task = front_end.make_task(config, source)
    seen, check = val_may_be_seen(config, source, data.splits["val"]), check_of(config)
    if needs_teacher(config):
        teacher = front_end.untrained_teacher(config, source)
        student = make_student(front_end, config, source, teacher, data).net
        # before hours of training
        plan = make_plan(front_end, config, task, student, teacher, data.shape)
        check_plan(plan, student, teacher, data.shape)
        make_fitting(config, make_facts(config, task), out)
        with torch.random.fork_rng(devices=[]):
            config = trained_teacher(partial(build, front_end), config, front_end, source)
    has_teacher = config["teacher"] and config["teacher"]["checkpoint"]
    trained = front_end.load_teacher(config, source) if has_teacher else None
    manifest = read_json(out / "manifest.json") or {}
    start = make_student(front_end, config, source, trained, data, manifest.get("choice"))
    student = start.net
    facts = make_facts(config, task) | {"val_may_be_seen": seen}
    if images := config["data"].get("images"):
        facts["data_fraction"] = round(images / len(source.train.names), 6)
    classes, size = source.classes, front_end.image_size(config, source)
    described = {"classes": classes, "palette": source.palette, "size": size}
    setup = Setup(student, trained, task, data, make_fitting(config, facts, out))
    plan = make_plan(front_end, config, task, student, trained, data.shape)
    said = [*start.said, *front_end.told(config, student)]
    known = source_hash(source)
    return Experiment(setup, plan, facts, text, described, known, check, said, start.choice)


def make_student(
    front_end: FrontEnd,
    config: Config,
    source: Source,
    teacher: BlockNet | None,
    data: Data,
    choice: dict[str, Any] | None = None,
) -> Start:
    """The student as it starts.

    Args:
        front_end: of the task.
        config: the resolved config.
        source: the data set.
        teacher: the trained one, or one of its shape.
        data: its splits.
        choice: of a shrunk student that has started before.
    """
    if config["student"]["name"] == SHRUNK:
        if teacher is None:
            raise UserError("student=shrunk: is made of a trained teacher: teacher.checkpoint=FILE")
        return shrunk_student(front_end, config, source, data, teacher, choice)
    student = front_end.make_student(config, source, teacher)
    init, said = config["student"].get("init"), []
    if init and init not in WORDS["student.init"]:
        said = [start_from(student, Path(init), source.classes)]
    elif teacher and _inherits(config):
        said = _inherit(config, student, teacher, data.shape)
    if teacher is None:
        return Start(student, said)
    options = config["method"] | front_end.method_options(config)
    keeps = options.get("head") == "teacher" or about(method_of(config)).keeps_head
    return Start(with_head(student, teacher, data.shape) if keeps else student, said)


def _inherits(config: Config) -> bool:
    """Whether the student starts with the teacher's weights: by default where it has a teacher."""
    init = config["student"].get("init")
    return init == "teacher" or (init is None and about(method_of(config)).needs_teacher)


def _inherit(config: Config, student: BlockNet, teacher: BlockNet, shape: Shape) -> list[str]:
    """Start the student with the teacher's weights, and tell what it has of them."""
    measure((student, teacher), shape)
    try:
        pairs = matched(student, teacher, config["match"]["pairs"], ("encoder", "decoder"))
    except UserError:  # whichever method matches features says so
        return []
    return [f"student: {inherit(student, teacher, pairs)}"]


def make_plan(
    front_end: FrontEnd,
    config: Config,
    task: Task,
    student: BlockNet,
    teacher: BlockNet | None,
    shape: Shape,
) -> Plan:
    """The plan of the config's method, which copies what it keeps of the teacher.

    Args:
        front_end: of the task.
        config: the resolved config.
        task: gives losses and metrics.
        student: the network to train.
        teacher: the trained one, where there is one.
        shape: of the images: channels, height and width.
    """
    stages = len(student.of_role("encoder")) + 1  # of stagewise distillation
    measure((student, teacher) if teacher else (student,), shape)
    method = instantiate(config["method"], **front_end.method_options(config))
    plan: Plan = method(task, student, teacher, epochs=stage_length(config))
    plan = within_budget(plan, config, stages)
    return in_steps(plan) if config["steps"] else plan


def make_fitting(config: Config, facts: dict[str, Any], out: Path) -> Fitting:
    """How the stages of a run are trained.

    Args:
        config: the resolved config.
        facts: the keys of result.json that name the experiment.
        out: the run folder.

    Raises:
        UserError: the tracker is not installed, or the optimizer has no such option.
    """
    cache, clips = config["cache"], config["trainer"].get("gradient_clip_val")
    # Lightning cannot clip the gradients of a fused step in mixed precision.
    plain = {"fused": False} if clips and config["optimizer"].get("fused") else {}
    tracker = instantiate(config["tracker"]) if "tracker" in config else no_tracker
    optimizer = instantiate(config["optimizer"], **plain)
    scheduler = instantiate(config["scheduler"])
    check_optimizing(optimizer, scheduler)
    return Fitting(
        optimizer=optimizer,
        scheduler=scheduler,
        batch_size=config["batch_size"],
        seed=config["seed"],
        workers=config["workers"],
        graft=config["graft"],
        trainer=config["trainer"],
        tracker=tracker(out, untracked(config), facts),
        compile=config["compile"],
        cache=Caching(**cache) if cache and cache["budget_gb"] != 0 else None,
        reuse=STAGES.absolute() if config.get("reuse") else None,  # a teacher is stored whole
    )


def make_facts(config: Config, task: Task) -> dict[str, Any]:
    """The keys of result.json that name the experiment."""
    teacher, decoder = config["teacher"], config.get("decoder")
    told = about(method_of(config))
    return {
        "task": task.name,
        "dataset": config["data"]["name"],
        "data_fraction": config["data"]["fraction"],
        "method": method_name(config),
        **asdict(told),
        "student": student_name(config),
        "teacher": teacher["name"] if teacher else None,
        "teacher_checkpoint": teacher["checkpoint"] if teacher else None,
        "decoder": decoder["name"] if decoder else None,
        "seed": config["seed"],
        "protocol": config["eval"]["protocol"],
    }
