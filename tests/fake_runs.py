"""Writes finished run folders by hand."""

import csv
import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

STAGEWISE = ("stem", "layer1", "head")  # of the other methods: one stage on labels
TEACHER = {"accuracy": 0.9, "balanced_accuracy": 0.88}
COST = {
    "student": {"params": 5_000_000, "macs": 20_000_000, "latency_ms": 1.5},
    "teacher": {"params": 21_000_000, "macs": 80_000_000, "latency_ms": 6.0},
    "device": "test CPU",
}


def write_run(
    path: Path,
    score: float = 0.8,
    seed: int = 0,
    method: str = "stagewise",
    options: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    teacher_hash: str = "0123456789",
    dataset_hash: str | None = None,
    architectures: dict[str, str] | None = None,
    data: dict[str, Any] | None = None,
    **result: Any,
) -> Path:
    """A run of two epochs a stage; `options` of the method, `result` overrides result.json."""
    facts = {
        "task": "classification",
        "dataset": "shapes",
        "data_fraction": 1.0,
        "method": method,
        "needs_teacher": method != "no_teacher",
        "reference": method == "stagewise",
        "metric": "accuracy",
        "mode": "max",
        "columns": ["accuracy"],
        "student": "resnet10",
        "teacher": "resnet34",
        "decoder": None,
        "seed": seed,
        "protocol": "holdout",
        "student_metrics": {"accuracy": score, "balanced_accuracy": score},
        "teacher_metrics": TEACHER if method != "no_teacher" else None,
        "cost": COST,
        "stages": [_stage(name) for name in (STAGEWISE if method == "stagewise" else ("labels",))],
        "seconds": 100.0 + seed,
        "images_seen": 6000,
        "finished": "2026-01-01",
    } | result
    chosen = {
        "data": {"name": facts["dataset"], "root": str(path), "fraction": facts["data_fraction"]}
        | (data or {}),
        "student": {"name": facts["student"]},
        "teacher": {"name": "resnet34", "checkpoint": f"{path}.pt", "store": "runs/teachers"},
        "method": {"_target_": f"stagewise_kd.methods.{method}.{method}", "_partial_": True}
        | (options or {}),
        "epochs": 2,
        "lr": 0.001,
        "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.001},
        "seed": seed,
        "tracker": {"_target_": "stagewise_kd.tracking.trackers.no_tracker"},
        "eval": {"protocol": facts["protocol"]},
    } | (config or {})
    path.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(chosen), path / "config.yaml")
    hashes: dict[str, Any] = {"teacher_hash": teacher_hash, "dataset_hash": dataset_hash}
    hashes |= {} if architectures is None else {"architectures": architectures}
    (path / "manifest.json").write_text(json.dumps(hashes))
    with (path / "metrics.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["stage", "epoch", "step", "name", "value"])
        for stage in facts["stages"]:
            for epoch in range(2):
                name = f"val/{stage['best']['monitor']}"
                rows.writerow([stage["name"], epoch, 10 * epoch, name, 0.5 / (epoch + 1)])
                rows.writerow([stage["name"], epoch, 10 * epoch, "train/loss", 1 / (epoch + 1)])
    (path / "result.json").write_text(json.dumps(facts))
    return path


def _stage(name: str) -> dict[str, Any]:
    learned = name in ("head", "labels")
    best = {"epoch": 1, "monitor": "accuracy" if learned else "loss", "value": 0.25}
    stage = {"name": name, "epochs": 2, "best": best, "seconds": 30.0, "images_seen": 2000}
    return stage if learned else stage | {"graft": {"accuracy": 0.85}}


def segmentation(miou: float, **iou: float) -> dict[str, Any]:
    """What differs in the result.json of a segmentation run."""
    scores = {"miou": miou, "dice": 0.7, "pixel_accuracy": 0.9, "miou_paper": miou}
    metrics = scores | {f"iou/{name}": value for name, value in iou.items()}
    stage = _stage("labels") | {"best": {"epoch": 1, "monitor": "miou", "value": 0.5}}
    return {
        "task": "segmentation",
        "metric": "miou",
        "columns": ["miou"],
        "dataset": "camvid",
        "decoder": "default",
        "student_metrics": metrics,
        "teacher_metrics": metrics | {"miou": 0.8},
        "stages": [stage],
    }
