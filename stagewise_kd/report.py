"""A finished run in a few lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from stagewise_kd.errors import UserError
from stagewise_kd.progress import console
from stagewise_kd.run_folder import read_json


def main_metric(result: dict[str, Any]) -> str:
    """The metric that a task is judged by: accuracy or miou."""
    return "accuracy" if "accuracy" in result["student_metrics"] else "miou"


def print_result(result: dict[str, Any], out: Path) -> None:
    """Student beside teacher: main metric and cost, and where the run lies."""
    console.print(results_table([result]))
    console.print(f"run folder: {out}", soft_wrap=True)


def read_result(path: Path) -> dict[str, Any]:
    """The result of a finished run.

    Raises:
        UserError: there is none.
    """
    result = read_json(path / "result.json")
    if result is None:
        raise UserError(f"{path}: holds no finished run (no result.json)")
    return dict(result)


def results_table(results: Sequence[dict[str, Any]]) -> Table:
    """One row a student, and the teacher they share first."""
    metric = main_metric(results[0])
    table = Table()
    for column in (
        "network",
        "method",
        f"test {metric}",
        "of teacher",
        "params",
        "MACs",
        "seconds",
    ):
        table.add_column(column, justify="left" if column in ("network", "method") else "right")
    taught = [result for result in results if result["teacher_metrics"]]
    if taught:
        figure = taught[0]["teacher_metrics"][metric]
        costs = _cost(taught[0]["cost"]["teacher"])
        table.add_row(taught[0]["teacher"], "teacher", f"{figure:.4f}", "", *costs, "")
    for result in results:
        figure = result["student_metrics"][metric]
        teacher = result["teacher_metrics"] or (taught[0]["teacher_metrics"] if taught else None)
        share = figure / teacher[metric] if teacher else None
        method = result["method"] + (" (paper protocol)" if result["protocol"] == "paper" else "")
        table.add_row(
            result["student"],
            method,
            f"{figure:.4f}",
            f"{share:.1%}" if share else "",
            *_cost(result["cost"]["student"]),
            f"{result['seconds']:.0f}",
        )
    return table


def _cost(cost: dict[str, float]) -> tuple[str, str]:
    return f"{cost['params'] / 1e6:.2f} M", f"{cost['macs'] / 1e6:.1f} M"
