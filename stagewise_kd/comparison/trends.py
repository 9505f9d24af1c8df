"""Figures across groups: score against data, labels, cost and seconds."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from stagewise_kd.comparison.drawing import (
    DOT,
    FRONT,
    STAR,
    TEACHER,
    colour,
    line,
    mark,
    new_figure,
    teachers,
    with_legend,
)
from stagewise_kd.comparison.runs import Group, direction, main_metric

Fraction = Literal["data_fraction", "label_fraction"]
AXES = {"data_fraction": "part of the train split", "label_fraction": "part that brings its labels"}


def fraction_scores(
    groups: Sequence[Group], table: pd.DataFrame, fraction: Fraction
) -> Figure | None:
    """Main metric against how much data or how many labels: a panel a student, a line a method."""
    places = [_fraction(group, fraction) for group in groups]
    ticks = sorted(set(places))
    if len(ticks) < 2:
        return None
    metric = main_metric(groups[0].runs[0].result)
    names = _line_names(groups, fraction)
    lines = list(dict.fromkeys(names))
    students = list(dict.fromkeys(group["student"] for group in groups))
    wide = min(3, len(students))
    high = math.ceil(len(students) / wide)
    figure = new_figure(3.2 * wide + 1.4, 2.8 * high, len(lines) + 1)
    panels = list(figure.subplots(high, wide, squeeze=False, sharey=True).flat)
    for axes, student in zip(panels, students, strict=False):
        axes.set(title=student, ylabel=f"test {metric}", xlabel=AXES[fraction], xscale="log")
        axes.set_xticks(ticks, [f"{100 * tick:.4g}%" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(ticks[0] / 1.2, ticks[-1] * 1.2)
        for number, name in enumerate(lines):
            found = zip(groups, places, names, strict=True)
            own = [(x, g.name) for g, x, n in found if (g["student"], n) == (student, name)]
            _score_line(axes, number, sorted(own), table, metric)
        for row in teachers(table):
            axes.axhline(row[metric], **TEACHER)
    for axes in panels[len(students) :]:
        axes.remove()
    handles = [line(number, **DOT) for number in range(len(lines))]
    dashed = [Line2D([], [], **TEACHER, label="teacher")] if list(teachers(table)) else []
    return with_legend(figure, [*handles, *dashed], lines)


def _fraction(group: Group, fraction: Fraction) -> float:
    if fraction == "data_fraction":
        return float(group[fraction])
    return float((group.runs[0].config.get("data") or {}).get(fraction, 1.0))


def _line_names(groups: Sequence[Group], fraction: Fraction) -> list[str]:
    """Names that the groups of a line share: less data often goes with more epochs."""
    names = [_line_name(group, {fraction, "epochs"}) for group in groups]
    points = [
        (group["student"], name, _fraction(group, fraction))
        for group, name in zip(groups, names, strict=True)
    ]
    twice = {name for student, name, place in points if points.count((student, name, place)) > 1}
    return [
        _line_name(group, {fraction}) if name in twice else name
        for group, name in zip(groups, names, strict=True)
    ]


def _line_name(group: Group, ignored: set[str]) -> str:
    notes = [f"decoder={group['decoder']}"] if group["decoder"] else []
    notes += [f"{name}={value}" for name, value in group.settings.items() if name not in ignored]
    if "label_fraction" in ignored and group["data_fraction"] != 1:
        notes.append(f"{100 * group['data_fraction']:.4g}% of data")
    notes += ["paper protocol"] if group["protocol"] == "paper" else []
    return ", ".join([group["method"], *notes])


def _score_line(
    axes: Axes, number: int, points: Sequence[tuple[float, str]], table: pd.DataFrame, metric: str
) -> None:
    """Scores of the named groups, with error bars over seeds."""
    rows = table.set_index("name")
    scores = [float(rows[metric][name]) for _, name in points]
    stds = [rows[f"{metric}_std"][name] for _, name in points]
    errors = [0.0 if pd.isna(std) else float(std) for std in stds]
    places = [place for place, _ in points]
    axes.errorbar(places, scores, errors, capsize=3, color=colour(number), linestyle="")
    axes.add_line(line(number, places, scores, **DOT))


def cost_and_score(groups: Sequence[Group], table: pd.DataFrame) -> Figure | None:
    """Main metric against multiply-adds, and latency if of one device, with Pareto fronts."""
    scale, unit = (1e9, "billion") if table["macs"].max() >= 1e9 else (1e6, "million")
    panels = [("macs", scale, f"multiply-adds for one image, {unit}")]
    if table["device"].nunique() == 1 and table["latency_ms"].notna().any():
        panels.append(("latency_ms", 1.0, "latency for one image, ms"))
    if "shipped_ms" in table:
        panels.append(("shipped_ms", 1.0, "latency for one image as shipped, ms"))
    return _scatter(groups, table, panels)


def seconds_and_score(groups: Sequence[Group], table: pd.DataFrame) -> Figure | None:
    """Main metric against the seconds of training, if of one device, with the Pareto front."""
    students = table[table["method"] != "teacher"]
    if students["device"].nunique() > 1 or students["seconds"].isna().all():
        return None
    return _scatter(groups, students, [("seconds", 1.0, "seconds to train the student")])


def _scatter(
    groups: Sequence[Group], table: pd.DataFrame, panels: Sequence[tuple[str, float, str]]
) -> Figure:
    """The main metric against columns of the table: names, units, labels."""
    figure = new_figure(2 + 4.4 * len(panels), 4.2, len(groups) + 2)
    metric = main_metric(groups[0].runs[0].result)
    for place, (column, scale, label) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        axes.set(xlabel=label, ylabel=f"test {metric}")
        axes.margins(0.12)
        _points(axes, groups, table[table[column].notna()], column, scale)
    marks = [mark(number) for number in range(len(groups))]
    stars = [Line2D([], [], **STAR, label="teacher")] if list(teachers(table)) else []
    front = Line2D([], [], **FRONT, label="Pareto front")
    return with_legend(figure, [*marks, *stars, front], [group.name for group in groups])


def _points(
    axes: Axes, groups: Sequence[Group], table: pd.DataFrame, column: str, scale: float
) -> None:
    metric = main_metric(groups[0].runs[0].result)
    points = [(row[column] / scale, float(row[metric])) for _, row in table.iterrows()]
    sign = direction(groups[0].runs[0].result)
    front = _front([(cost, sign * score) for cost, score in points], table["protocol"])
    axes.plot(*zip(*((cost, sign * score) for cost, score in front), strict=True), **FRONT)
    for (cost, score), (_, row) in zip(points, table.iterrows(), strict=True):
        if row["method"] == "teacher":
            axes.plot(cost, score, **STAR)
            continue
        number = [group.name for group in groups].index(row["name"])
        error = None if pd.isna(row[f"{metric}_std"]) else float(row[f"{metric}_std"])
        axes.errorbar(cost, score, error, capsize=3, color=colour(number), zorder=2)
        axes.add_line(mark(number, [cost], [score]))


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Numbers of the points (cost, score) that no other beats: none costs less and scores more.

    A point is beaten by one that is at least as good in both and better in one.
    """
    return [
        number
        for number, (cost, score) in enumerate(points)
        if not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
    ]


def _front(points: Sequence[tuple[float, float]], protocols: Iterable[Any]) -> list[Any]:
    """The Pareto front from left to right; scores of the paper's protocol not beside others."""
    kinds = [str(protocol) for protocol in protocols]
    unfair = "paper" if "holdout" in kinds else ""
    fair = [point for point, kind in zip(points, kinds, strict=True) if kind != unfair]
    return sorted(fair[number] for number in pareto_front(fair))
