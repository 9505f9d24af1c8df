"""One experiment from its parts to a finished run folder."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from stagewise_kd.data.identity import content_hash, counts, fingerprints, leaks
from stagewise_kd.data.present import absent_classes, check_any
from stagewise_kd.export.card import write_card
from stagewise_kd.methods.checks import check_plan
from stagewise_kd.methods.outline import brief, outline, told
from stagewise_kd.methods.plan import Plan
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.cost import costs
from stagewise_kd.networks.hashes import architecture_hash, weights_hash
from stagewise_kd.runs.foreign import SEEN, Check, check_teacher
from stagewise_kd.runs.student import save_student
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import write_json
from stagewise_kd.system.processes import barrier, device_name, from_first, rank
from stagewise_kd.system.run_folder import RunFolder, open_run, versions
from stagewise_kd.training.norms import settled
from stagewise_kd.training.score import AGREEMENT, TEACHER, scores
from stagewise_kd.training.setup import Setup
from stagewise_kd.training.sharing import SharedStages
from stagewise_kd.training.stages import run_plan
from stagewise_kd.training.trainer import check_limits

INTERNAL = ("timing", "key")  # of a stage's record: no part of the result
TOLD_BY_STAGES = (
    "method",
    "match",
    "schedule",
    "budget",
    "epochs",
    "student",
    "teacher",
    "decoder",
)


@dataclass(frozen=True)
class Experiment:
    """What a run folder describes.

    Args:
        setup: networks, task, data, and how they are trained.
        plan: the stages.
        facts: the keys of result.json that name the experiment: dataset, method, seed, …
        config: the resolved configuration as YAML.
        described: whatever predicting on new images takes: classes, size, ….
        dataset_hash: the content of the whole data set, by which comparisons know it.
        check: whether a teacher that is no better than chance ends the run.
        said: lines about the student, said before it trains.
        choice: of a shrunk student, kept for when the run goes on.
    """

    setup: Setup
    plan: Plan
    facts: dict[str, Any]
    config: str
    described: dict[str, Any]
    dataset_hash: str | None = None
    check: Check = "warn"
    said: Sequence[str] = ()
    choice: dict[str, Any] | None = None


def bring_to_end(
    out: Path,
    config: str,
    build: Callable[[], Experiment],
    wait: bool = False,
    setting: str = "out",
) -> dict[str, Any]:
    """The result of the run in `out`: of a finished one at once, else when it is done.

    Args:
        out: the run folder.
        config: the resolved configuration as YAML.
        build: makes the experiment.
        wait: wait for a process that is at work on it, instead of refusing.
        setting: that says where it lies.

    Raises:
        UserError: anything in the config or the data is wrong; nothing is left behind then.
    """
    with open_run(out, wait, setting) as folder:
        folder.check_config(config)
        result: dict[str, Any] | None = from_first(folder.result)
        if result is None:
            return run_experiment(build(), folder)
    if rank() == 0 and not wait:
        console.print(f"{out} is finished already", soft_wrap=True)
    return result


def run_experiment(experiment: Experiment, run: RunFolder) -> dict[str, Any]:
    """Train what is left to train, score the student once on the test split, write the result.

    Raises:
        UserError: the plan cannot run, or the folder holds a run of something else.
    """
    setup = experiment.setup
    _check_labels(experiment)
    check_limits(setup)
    torch.manual_seed(setup.fitting.seed)
    adapters = check_plan(experiment.plan, setup.student, setup.teacher, setup.data.shape)
    experiment = replace(experiment, plan=settled(experiment.plan, setup))
    prints = fingerprints(setup.data)
    found = identity(experiment, content_hash(prints))
    run.check_config(experiment.config)
    run.check_identity(found)
    if (result := from_first(run.result)) is not None:
        return dict(result)
    if not from_first((run.path / "manifest.json").is_file()):  # else it was checked then
        check_teacher(setup, experiment.check, experiment.described.get("classes", []))
        if experiment.facts.get("val_may_be_seen") and setup.data.labelled and rank() == 0:
            console.print(SEEN, soft_wrap=True, highlight=False)
    absent = absent_classes(setup.data.counts, experiment.described.get("classes", ()))
    for line in [*absent, *leaks(prints, setup.data.splits)] if rank() == 0 else ():
        console.print(f"warning: {line}", soft_wrap=True, highlight=False)
    for line in [*experiment.said, *brief(experiment.plan)] if rank() == 0 else ():
        console.print(line, soft_wrap=True, highlight=False)
    _tell_few(experiment)
    run.start(experiment.config, found | _content(experiment), setup.data.splits)
    shared = SharedStages(setup.fitting.reuse, _basis(experiment, found))
    records = run_plan(experiment.plan, adapters, setup, run, shared)
    stages = [{k: v for k, v in record.items() if k not in INTERNAL} for record in records]
    figures = {**_main(setup), **_figures(setup, stages), "stages": stages, **_totals(stages)}
    result = {**experiment.facts, "images": len(setup.data.train), **figures}  # type: ignore[arg-type]
    if rank() == 0:
        task = {"task": setup.task.name}
        save_student(run.path / "student", setup.student, task | experiment.described)
        write_card(run.path, result)
        write_json(run.path / "result.json", result)
        if setup.fitting.tracker:
            setup.fitting.tracker.finish(result, run.path)
    barrier()
    return result


def identity(experiment: Experiment, data_hash: str) -> dict[str, Any]:
    """What a run depends on, to be held against what it started from when it goes on."""
    setup = experiment.setup
    return {
        "seed": setup.fitting.seed,
        "split_hash": setup.data.split_hash,
        "samples": counts(setup.data),
        "data_hash": data_hash,
        "student_hash": weights_hash(setup.student.model),
        "teacher_hash": weights_hash(setup.teacher.model) if setup.teacher else None,
        "plan": [outline(stage) for stage in experiment.plan],
    }


def _basis(experiment: Experiment, found: dict[str, Any]) -> list[Any]:
    """What every stage of a run depends on: all settings but those that it tells itself."""
    teacher, config = experiment.setup.teacher, yaml.safe_load(experiment.config)
    return [
        {key: value for key, value in config.items() if key not in TOLD_BY_STAGES},
        {key: found[key] for key in ("seed", "split_hash", "data_hash", "teacher_hash")},
        told([teacher.model, teacher.mean.tolist(), teacher.std.tolist()] if teacher else None),
        versions(),
    ]


def _tell_few(experiment: Experiment) -> None:
    count = len(experiment.setup.data.val)  # type: ignore[arg-type]
    least = max(stage.monitor.least for stage in experiment.plan)
    if rank() == 0 and count < least:
        console.print(
            f"{count} validation images are too few to choose an epoch by: stages that learn from "
            f"labels keep their last one (from data.val={least} on: the best)",
            soft_wrap=True,
            highlight=False,
        )


def _content(experiment: Experiment) -> dict[str, Any]:
    """What comparisons know data sets and networks by."""
    setup = experiment.setup
    nets = {"student": setup.student, TEACHER: setup.teacher}
    hashes = {name: architecture_hash(net) for name, net in nets.items() if net}
    own = {"choice": experiment.choice} if experiment.choice else {}
    return {"dataset_hash": experiment.dataset_hash, "architectures": hashes, **own}


def _check_labels(experiment: Experiment) -> None:
    learns = [stage.name for stage in experiment.plan if stage.sees_labels]
    if learns and experiment.setup.data.labelled:
        check_any(experiment.setup.data, experiment.setup.task.void)
    elif learns:
        raise UserError(
            f"stage {learns[0]!r} learns from labels, and there are none, only images; give labels "
            "too, or leave out the option that asks for them, or take a method that learns from "
            "the teacher alone"
        )


def _main(setup: Setup) -> dict[str, Any]:
    """What the result is judged by: the task's main figure, or agreement without labels."""
    task, labelled = setup.task, setup.data.has_labels(setup.data.test)
    columns = [*task.columns] if labelled else []
    return {
        "metric": task.monitor.name if labelled else AGREEMENT,
        "mode": task.monitor.mode if labelled else "max",
        "columns": columns if setup.data.labelled else [*columns, AGREEMENT],
    }


def _figures(setup: Setup, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Test figures and cost of both networks, and what grafts are to be held against."""
    student, teacher = setup.student, setup.teacher
    nets: dict[str, BlockNet] = {"student": student} | ({TEACHER: teacher} if teacher else {})
    for net in nets.values():
        net.to(setup.device).eval()
    found, val = scores(nets, setup.data.test, setup), {}
    if teacher and any("graft" in stage for stage in stages):
        val = {"teacher_val_metrics": scores({TEACHER: teacher}, setup.data.val, setup)[TEACHER]}
    return {
        "student_metrics": found["student"],
        "teacher_metrics": found.get(TEACHER),
        **val,
        "cost": costs(nets, setup.data.shape) | {"device": device_name(setup.device)},
    }


def _totals(stages: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "seconds": round(math.fsum(stage["seconds"] for stage in stages), 2),
        "images_seen": sum(stage["images_seen"] for stage in stages),
        "finished": time.strftime("%Y-%m-%d"),
    }
