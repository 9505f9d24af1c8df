"""Finished runs as a table in the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.measure import Measurement
from rich.table import Table

from stagewise_kd.comparison.runs import Run, read_runs, told_apart
from stagewise_kd.comparison.table import LEFT, shown, summary
from stagewise_kd.system.console import console

NAMES = ("dataset", "data", "network", "decoder", "method", "against", "block")  # of a row


def print_result(result: dict[str, Any], out: Path) -> None:
    """Student beside teacher: main metric and cost, and where the run lies."""
    print_table(results_text([result]))
    console.print(f"run folder: {out}", soft_wrap=True)


def print_runs(folders: Sequence[Path]) -> None:
    """One table of finished runs of the same task."""
    runs = read_runs(folders)
    print_table(shown(summary(told_apart(runs)), runs[0].result["columns"]))


def results_text(results: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row for results that differ in the seed alone, and the teacher first."""
    groups = told_apart(Run(Path(), {}, result) for result in results)
    return shown(summary(groups), results[0]["columns"])


def results_table(results: Sequence[dict[str, Any]]) -> Table:
    """The same as a table for the terminal."""
    return rich_table(results_text(results))


def print_table(text: pd.DataFrame) -> None:
    """Print a table of texts; in a narrow terminal as several tables."""
    if not console.is_terminal:
        table = rich_table(text)
        table.width = _width(table).maximum
        console.print(table, crop=False)
        return
    for part in _parts(text):
        console.print(rich_table(part), crop=False)


def _parts(text: pd.DataFrame) -> list[pd.DataFrame]:
    """All columns, in tables that fit the terminal and repeat what names their rows."""
    names = [name for name in text if name in NAMES]
    parts = [names]
    for column in (name for name in text if name not in NAMES):
        wider = [*parts[-1], column]
        fits = _width(rich_table(text[wider])).minimum <= console.width
        parts = [*parts[:-1], wider] if fits or parts[-1] == names else [*parts, [*names, column]]
    return [text[part] for part in parts]


def _width(table: Table) -> Measurement:
    return Measurement.get(console, console.options.update(max_width=1000), table)


def rich_table(text: pd.DataFrame) -> Table:
    """A table of texts, from `shown`, for the terminal; words wrap, figures do not."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name, column in text.items():
        cells = [str(name), *column]
        if name in LEFT:
            longest = max(len(word) for cell in cells for word in cell.split())
            table.add_column(str(name), min_width=longest)
        else:
            longest = max(len(cell) for cell in cells)
            table.add_column(str(name), justify="right", min_width=longest, no_wrap=True)
    for row in text.values.tolist():
        table.add_row(*row)
    return table
