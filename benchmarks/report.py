"""Figures of all variants as tables, and the machine that they were measured on."""

import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.meter import Spent
from stagewise_kd.methods.plan import Plan

Runs = dict[str, list[dict[str, Spent]]]  # of each variant and repetition, by stage
Figures = dict[str, dict[str, Any]]  # of each variant, of one stage or of all

COLUMNS = ("seconds", "images/s", "a ÷ x", "a' ÷ x", "x ÷ e", "peak MiB", "cache MiB")
FEATURES = "matched"  # the stages that match features, together
ALL = "all"


def figures(runs: Runs, images: int, plan: Plan) -> dict[str, Figures]:
    """Medians over the repetitions, of each stage, of the feature stages and of all.

    Args:
        runs: what was measured; the variants are called by their letters, see `benchmarks.loops`.
        images: that a stage trains on, over all epochs.
        plan: the stages.
    """
    groups = {stage.name: [stage.name] for stage in plan}
    groups[FEATURES] = [stage.name for stage in plan if not stage.sees_labels]
    groups[ALL] = [stage.name for stage in plan]
    found = {}
    for name, chosen in groups.items():
        seconds = {
            variant: statistics.median(sum(run[s].seconds for s in chosen) for run in repeats)
            for variant, repeats in runs.items()
        }
        found[name] = {
            variant: {
                "seconds": seconds[variant],
                "images_per_second": images * len(chosen) / seconds[variant],
                "ratio_to_a": seconds["a"] / seconds[variant],
                "ratio_to_a_same_precision": seconds["a'"] / seconds[variant]
                if "a'" in seconds
                else None,
                "ratio_to_e": seconds[variant] / seconds["e"],
                "peak_bytes": max(run[s].memory for run in repeats for s in chosen),
                "cache_bytes": max(run[s].cache for run in repeats for s in chosen),
            }
            for variant, repeats in runs.items()
        }
    return found


def cells(figures: dict[str, Any]) -> list[str]:
    """The figures of one variant as text, in the order of `COLUMNS`."""
    seconds, *rates, memory, cache = figures.values()
    ratios = (f"{rate:.2f}" if rate else "–" for rate in rates[1:])
    rates_shown = [f"{rates[0]:,.0f}", *ratios]
    return [f"{seconds:.2f}", *rates_shown, f"{memory / 2**20:.0f}", f"{cache / 2**20:.0f}"]


def print_tables(report: dict[str, Any]) -> None:
    """All figures, stage by stage and in all."""
    table = Table("stage", "x", *COLUMNS)
    for stage, variants in report["figures"].items():
        table.add_section()
        for index, (variant, found) in enumerate(variants.items()):
            table.add_row("" if index else stage, variant, *cells(found))
    legend = "; ".join(f"{variant}: {label}" for variant, label in report["variants"].items())
    console = Console()
    for part in (report["title"], table, legend, report["caption"], *report["notes"]):
        console.print(part, soft_wrap=isinstance(part, str), highlight=False)


def markdown(report: dict[str, Any]) -> str:
    """The figures of all stages together, and the seconds of each stage."""
    variants = report["variants"]
    shown = report["figures"][ALL]
    rows = [[f"{v}: {label}", *cells(shown[v])] for v, label in variants.items()]
    stages = [
        [stage, *(f"{found[v]['seconds']:.2f}" for v in variants)]
        for stage, found in report["figures"].items()
    ]
    return "\n\n".join(
        [
            f"## {report['title']}",
            f"    {report['command']}",
            _lines(["variant", *COLUMNS], rows),
            "Seconds of each stage:",
            _lines(["stage", *variants], stages),
            *report["notes"],
        ]
    )


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures depend on beside the code."""
    found = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return {**found, **gpu}


def describe(found: dict[str, Any]) -> str:
    """The machine in one line."""
    gpu = f"{found['gpu']}; " if "gpu" in found else ""
    return (
        f"{gpu}{found['cpu']}, {found['cores']} cores, {found['threads']} threads; "
        f"torch {found['torch']}, Python {found['python']}; {found['date']}"
    )


def _cpu() -> str:
    """The processor's own name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
