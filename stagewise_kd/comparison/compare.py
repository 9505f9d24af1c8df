"""Compares finished runs: tables, figures, and one page to read them on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from stagewise_kd.comparison import paired, paper_tables
from stagewise_kd.comparison.drawing import save
from stagewise_kd.comparison.figures import draw
from stagewise_kd.comparison.latency import differing
from stagewise_kd.comparison.page import Exhibit, page
from stagewise_kd.comparison.paper import beside
from stagewise_kd.comparison.runs import Group, Run, read_runs, told_apart
from stagewise_kd.comparison.scratch import ahead
from stagewise_kd.comparison.table import markdown, shown, summary
from stagewise_kd.system.files import write_text, writing_into


@dataclass(frozen=True)
class Comparison:
    """What a comparison found and wrote.

    Args:
        runs: all that were compared.
        table: one row a group and a teacher, in full precision; `summary` tells its columns.
        text: the same as a reader wants it.
        differences: of each method from stagewise distillation; `paired.differences` tells its
            columns.
        published: published figures and ours; `paper.beside` tells its columns.
        no_gain: where students are better from scratch, from `scratch.ahead`.
        figures: names and PNG files; an SVG lies beside each.
        gallery: as given.
        page: index.html.
    """

    runs: list[Run]
    table: pd.DataFrame
    text: pd.DataFrame
    differences: pd.DataFrame
    published: pd.DataFrame
    no_gain: list[str]
    figures: dict[str, Path]
    gallery: Sequence[Exhibit]
    page: Path


def compare(runs: Sequence[Path], out: Path, gallery: Sequence[Exhibit] = ()) -> Comparison:
    """Compare finished runs and write tables, figures and index.html into `out`.

    The tables are table.csv and table.md, differences.csv where methods can be held against each
    other, published.csv and published.md where there are published figures to the runs.

    Args:
        runs: run folders; a folder of several runs stands for all finished ones below it.
        out: the folder to write.
        gallery: pictures for the page, in their order.

    Raises:
        UserError: a folder holds no finished run, the runs are of different tasks, or `out`
            cannot be written.
    """
    found = read_runs(runs)
    groups = told_apart(found)
    table = summary(groups)
    text = shown(table, found[0].result["columns"])
    differences, published, no_gain = paired.differences(groups), beside(groups), ahead(groups)
    drawn = _figures(groups, table)
    title = f"{len(found)} run{'s' * (len(found) > 1)} on {', '.join(_datasets(groups))}"
    winners = paired.clear_winners(groups)
    with writing_into(out):
        _write_tables(out, table, text, differences, published, no_gain)
        svgs = {name: save(figure, out / name) for name, figure in drawn.items()}
        html = page(
            title,
            text,
            svgs,
            gallery,
            found,
            bold=[number for number, name in enumerate(table["name"]) if name in winners],
            differences=paired.shown(differences) if len(differences) else None,
            published=paper_tables.tables(published),
            latencies=differing(groups),
            no_gain=no_gain,
        )
        write_text(out / "index.html", html)
    pngs = {name: out / f"{name}.png" for name in drawn}
    return Comparison(
        found, table, text, differences, published, no_gain, pngs, gallery, out / "index.html"
    )


def _write_tables(
    out: Path,
    table: pd.DataFrame,
    text: pd.DataFrame,
    differences: pd.DataFrame,
    published: pd.DataFrame,
    no_gain: Sequence[str],
) -> None:
    below = "".join(f"\n**From scratch is ahead.** {line}\n" for line in no_gain)
    if len(differences):
        below += f"\nDifferences. {paired.NOTE}\n\n{markdown(paired.shown(differences))}"
        write_text(out / "differences.csv", differences.to_csv(index=False))
    if len(published):
        write_text(out / "published.csv", published.to_csv(index=False))
        write_text(out / "published.md", paper_tables.markdown_of(published))
    write_text(out / "table.csv", table.drop(columns="name").to_csv(index=False))
    write_text(out / "table.md", markdown(text) + below)


def _datasets(groups: Sequence[Group]) -> list[str]:
    return list(dict.fromkeys(group["dataset"] for group in groups))


def _figures(groups: Sequence[Group], table: pd.DataFrame) -> dict[str, Figure]:
    """The figures of every data set, named after it where there are several."""
    found: dict[str, Figure] = {}
    datasets = _datasets(groups)
    for dataset in datasets:
        own = [group for group in groups if group["dataset"] == dataset]
        figures = draw(own, table[table["dataset"] == dataset])
        suffix = f"-{dataset}" if len(datasets) > 1 else ""
        found |= {f"{name}{suffix}": figure for name, figure in figures.items()}
    return found
