"""The figures of a comparison."""

import math
import textwrap
from collections.abc import Iterable, Sequence

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from stagewise_kd.comparison.drawing import (
    DOT,
    LOOK,
    TEACHER,
    colour,
    line,
    new_figure,
    widths,
    with_legend,
)
from stagewise_kd.comparison.runs import Group, Run, main_metric
from stagewise_kd.comparison.trends import cost_and_score, fraction_scores, seconds_and_score


def draw(groups: Sequence[Group], table: pd.DataFrame) -> dict[str, Figure]:
    """All figures that the runs of one data set have something to show in.

    Args:
        groups: from `told_apart`.
        table: from `summary`, of these groups and their teachers.

    Returns:
        Of "curves", "graft", "fractions", "labels", "pareto", "seconds" and "classes" those
        there are.
    """
    with matplotlib.rc_context(LOOK):
        found = {
            "curves": learning_curves(groups),
            "graft": graft_scores(groups),
            "fractions": fraction_scores(groups, table, "data_fraction"),
            "labels": fraction_scores(groups, table, "label_fraction"),
            "pareto": cost_and_score(groups, table),
            "seconds": seconds_and_score(groups, table),
            "classes": class_scores(table),
        }
    return {name: figure for name, figure in found.items() if figure is not None}


def learning_curves(groups: Sequence[Group]) -> Figure | None:
    """What each stage is judged by on the validation split: a panel a stage, a line a run."""
    lines = [
        (number, run, stage)
        for number, group in enumerate(groups)
        for run in group.runs
        if not run.metrics.empty
        for stage in run.result["stages"]
    ]
    longest = sorted(lines, key=lambda line: -len(line[1].result["stages"]))
    panels = list(dict.fromkeys((s["name"], s["best"]["monitor"]) for _, _, s in longest))
    if not panels:
        return None
    wide = min(3, len(panels))
    high = math.ceil(len(panels) / wide)
    figure = new_figure(3.2 * wide + 1, 2.4 * high, len(groups))
    for place, (name, monitor) in enumerate(panels, 1):
        axes = figure.add_subplot(high, wide, place)
        axes.set(title=name, ylabel=f"val {monitor}", xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        own = [
            (number, stage["best"], _history(run, name, monitor))
            for number, run, stage in lines
            if (stage["name"], stage["best"]["monitor"]) == (name, monitor)
        ]
        wide_as = widths([history for *_, history in own])
        for (number, best, history), width in zip(own, wide_as, strict=True):
            axes.add_line(line(number, *history, linewidth=width))
            axes.plot(best["epoch"] + 1, best["value"], "o", color=colour(number), markersize=4)
        axes.autoscale_view()
        if monitor == "loss":
            _log_scale(axes)
    return with_legend(figure, [line(number) for number in range(len(groups))], _names(groups))


def graft_scores(groups: Sequence[Group]) -> Figure | None:
    """Score of the student's blocks so far inside the teacher, by stage; the teacher dashed.

    Runs with a single such score, whose blocks all trained at once, have no course to show.
    """
    runs = [(number, run.result) for number, group in enumerate(groups) for run in group.runs]
    told = {name for _, r in runs for stage in r["stages"] for name in stage.get("graft", ())}
    main = main_metric(groups[0].runs[0].result)
    metric = main if main in told else "agreement"  # of validation images without labels
    every = [
        (n, {s["name"]: s["graft"][metric] for s in r["stages"] if metric in s.get("graft", ())})
        for n, r in runs
    ]
    grafts = [(number, scores) for number, scores in every if len(scores) > 1]
    longest = sorted((scores for _, scores in grafts), key=len, reverse=True)
    names = list(dict.fromkeys(name for scores in longest for name in scores))
    if not names:
        return None
    drawn = list(dict.fromkeys(number for number, _ in grafts))
    figure = new_figure(6.4, 3.4, len(drawn) + 1)
    axes = figure.add_subplot()
    axes.set(ylabel=f"val {metric} of the graft", xlabel="student blocks inside the teacher up to")
    axes.set_xticks(range(len(names)), names)
    wide_as = widths([scores for _, scores in grafts])
    for (number, scores), width in zip(grafts, wide_as, strict=True):
        places = [names.index(name) for name in scores]
        axes.add_line(line(number, places, list(scores.values()), linewidth=width, **DOT))
    results = [run.result for number in drawn for run in groups[number].runs]
    known = [found for r in results if (found := r.get("teacher_val_metrics"))]
    whole = {found[metric] for found in known if metric in found}
    for score in whole:
        axes.axhline(score, **TEACHER)
    axes.autoscale_view()
    lines = [line(number, **DOT) for number in drawn]
    lines += [Line2D([], [], **TEACHER, label="the teacher itself, same split")] if whole else []
    return with_legend(figure, lines, _names(groups[number] for number in drawn))


def class_scores(table: pd.DataFrame) -> Figure | None:
    """IoU of every class and network in percent, numbers on a colour scale."""
    names = [name for name in table if name.startswith("iou/")]
    if not names:
        return None
    scores = 100 * table[names].astype(float).T
    figure = new_figure(2 + 1.3 * len(table), 1.6 + 0.32 * len(names), 0)
    axes = figure.add_subplot()
    axes.imshow(scores, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for row, column in ((r, c) for r in range(len(names)) for c in range(len(table))):
        value = scores.iat[row, column]
        if not math.isnan(value):
            ink = "black" if value > 50 else "white"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=ink)
    axes.grid(False)
    axes.set_yticks(range(len(names)), [name.removeprefix("iou/") for name in names])
    axes.set_xticks(range(len(table)), [_narrow(name) for name in table["name"]])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    return figure


def _history(run: Run, stage: str, monitor: str) -> tuple[list[int], list[float]]:
    """Epochs, from 1, and what they gave on the validation split."""
    rows = run.metrics
    rows = rows[(rows["stage"] == stage) & (rows["name"] == f"val/{monitor}")]
    return list(rows["epoch"] + 1), list(rows["value"])


def _log_scale(axes: Axes) -> None:
    """A logarithmic axis where values spread wide enough for one to say more."""
    low, high = axes.dataLim.intervaly
    if low > 0 and high > 5 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())


def _narrow(name: str) -> str:
    """A name in lines of about 18 letters."""
    lines = name.replace(", ", ",\n").splitlines()
    return "\n".join(textwrap.fill(line, 18, break_long_words=False) for line in lines)


def _names(groups: Iterable[Group]) -> list[str]:
    return [group.name for group in groups]
