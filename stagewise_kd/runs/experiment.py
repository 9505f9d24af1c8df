"""One experiment from its parts to a finished run folder."""

import math
import platform
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from stagewise_kd.methods.checks import check_plan
from stagewise_kd.methods.plan import Plan, Stage
from stagewise_kd.networks.blocks import BlockNet, weights_hash
from stagewise_kd.networks.cost import cost
from stagewise_kd.runs.student import save_student
from stagewise_kd.system.files import write_json
from stagewise_kd.system.processes import barrier, rank
from stagewise_kd.system.run_folder import RunFolder
from stagewise_kd.training.score import score
from stagewise_kd.training.setup import Setup
from stagewise_kd.training.stages import run_plan


@dataclass(frozen=True)
class Experiment:
    """What a run folder describes.

    Args:
        facts: the keys of result.json that name the experiment: dataset, method, seed, …
        config: the resolved configuration as YAML.
        network: what rebuilds the student: the arguments of the function that built it, and
            whatever predicting on new images takes (task, size, classes).
        files: further JSON files of the student's folder by name; None for no such file.
    """

    setup: Setup
    plan: Plan
    facts: dict[str, Any]
    config: str
    network: dict[str, Any]
    files: dict[str, Any] = field(default_factory=dict)


def run_experiment(experiment: Experiment, run: RunFolder) -> dict[str, Any]:
    """Train what is left to train, score the student once on the test split, write the result."""
    setup = experiment.setup
    torch.manual_seed(setup.fitting.seed)
    adapters = check_plan(experiment.plan, setup.student, setup.teacher, setup.data.shape)
    facts = {
        "seed": setup.fitting.seed,
        "split_hash": setup.data.split_hash,
        "teacher_hash": weights_hash(setup.teacher.model) if setup.teacher else None,
        "plan": [_outline(stage) for stage in experiment.plan],
    }
    run.start(experiment.config, facts, setup.data.splits)
    records = run_plan(experiment.plan, adapters, setup, run)
    stages = [{k: v for k, v in record.items() if k != "timing"} for record in records]
    result = {**experiment.facts, **_figures(setup), "stages": stages, **_totals(stages)}
    if rank() == 0:
        files = {"network.json": experiment.network, **experiment.files}
        save_student(run.path / "student", setup.student.model, files)
        write_json(run.path / "result.json", result)
        if setup.fitting.tracker:
            setup.fitting.tracker.finish(result, run.path)
    barrier()
    return result


def _outline(stage: Stage) -> dict[str, Any]:
    """What tells how far a run is."""
    monitor = {"monitor": stage.monitor.name, "mode": stage.monitor.mode}
    return {"name": stage.name, "epochs": stage.epochs, **monitor}


def _figures(setup: Setup) -> dict[str, Any]:
    """Test metrics and cost of both networks."""
    student, teacher, test = setup.student, setup.teacher, setup.data.test
    nets: dict[str, BlockNet] = {"student": student} | ({"teacher": teacher} if teacher else {})
    figures: dict[str, Any] = {"teacher_metrics": None, "cost": {}}
    for name, net in nets.items():
        net.to(setup.device).eval()
        figures[f"{name}_metrics"] = score(net, test, setup)
        figures["cost"][name] = cost(net, setup.data.shape)
    figures["cost"]["device"] = device_name(setup.device)
    return figures


def device_name(device: torch.device) -> str:
    """The device's own name, as a reader of a table wants it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads"


def _totals(stages: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "seconds": round(math.fsum(stage["seconds"] for stage in stages), 2),
        "images_seen": sum(stage["images_seen"] for stage in stages),
        "finished": time.strftime("%Y-%m-%d"),
    }
