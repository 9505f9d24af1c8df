"""One experiment from its parts to a finished run folder."""

import math
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stagewise_kd.bench import Bench, score
from stagewise_kd.blocks import BlockNet, weights_hash
from stagewise_kd.cost import cost
from stagewise_kd.distributed import barrier, rank
from stagewise_kd.engine import run_plan
from stagewise_kd.errors import UserError
from stagewise_kd.files import read_weights, write_json, write_tensors
from stagewise_kd.plan import Plan, Stage, check_plan
from stagewise_kd.run_folder import RunFolder, read_json


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

    bench: Bench
    plan: Plan
    facts: dict[str, Any]
    config: str
    network: dict[str, Any]
    files: dict[str, Any] = field(default_factory=dict)


def run_experiment(experiment: Experiment, run: RunFolder) -> dict[str, Any]:
    """Train what is left to train, score the student once on the test split, write the result."""
    bench = experiment.bench
    torch.manual_seed(bench.fitting.seed)
    adapters = check_plan(experiment.plan, bench.student, bench.teacher, bench.data.shape)
    facts = {
        "seed": bench.fitting.seed,
        "split_hash": bench.data.split_hash,
        "teacher_hash": weights_hash(bench.teacher.model) if bench.teacher else None,
        "plan": [_outline(stage) for stage in experiment.plan],
    }
    run.start(experiment.config, facts, bench.data.splits)
    records = run_plan(experiment.plan, adapters, bench, run)
    stages = [{k: v for k, v in record.items() if k != "timing"} for record in records]
    result = {**experiment.facts, **_figures(bench), "stages": stages, **_totals(stages)}
    if rank() == 0:
        files = {"network.json": experiment.network, **experiment.files}
        save_student(run.path / "student", bench.student.model, files)
        write_json(run.path / "result.json", result)
        if bench.fitting.tracker:
            bench.fitting.tracker.finish(result, run.path)
    barrier()
    return result


def _outline(stage: Stage) -> dict[str, Any]:
    """What tells how far a run is."""
    monitor = {"monitor": stage.monitor.name, "mode": stage.monitor.mode}
    return {"name": stage.name, "epochs": stage.epochs, **monitor}


def save_student(folder: Path, model: nn.Module, files: dict[str, Any]) -> None:
    """Write weights and what rebuilds the network."""
    folder.mkdir(exist_ok=True)
    write_tensors(folder / "model.safetensors", model.state_dict())
    for name, content in files.items():
        if content is not None:
            write_json(folder / name, content)


def load_student(path: Path, task: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and description of a finished run's student.

    Args:
        path: the run folder, or its student/ folder.
        task: what the student must have been trained for, such as "classification".

    Raises:
        UserError: there is no finished student, it is of another task, or its files are damaged.
    """
    for folder in (path / "student", path):
        network = read_json(folder / "network.json")
        if network is not None:
            _check_task(path, network.get("task", task), task)
            return read_weights(folder / "model.safetensors"), network
    raise UserError(f"{path}: holds no finished student; give the folder of a finished run")


def _check_task(path: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise UserError(
            f"{path}: is a {found} run, expected a {wanted} run; "
            f"give another folder, or use the command line for {found}"
        )


def _figures(bench: Bench) -> dict[str, Any]:
    """Test metrics and cost of both networks."""
    student, teacher, test = bench.student, bench.teacher, bench.data.test
    nets: dict[str, BlockNet] = {"student": student} | ({"teacher": teacher} if teacher else {})
    figures: dict[str, Any] = {"teacher_metrics": None, "cost": {}}
    for name, net in nets.items():
        net.to(bench.device).eval()
        figures[f"{name}_metrics"] = score(net, test, bench)
        figures["cost"][name] = cost(net, bench.data.shape)
    figures["cost"]["device"] = device_name(bench.device)
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
