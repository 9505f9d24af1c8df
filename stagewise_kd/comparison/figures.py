"""The figures of a comparison, in Okabe and Ito's colours, which the colour-blind tell apart."""

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from stagewise_kd.comparison.runs import Group, main_metric
from stagewise_kd.files import write_text, write_whole

Style = dict[str, Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: Any = ("-", "--", "-.", ":")
MARKERS = "osD^vP"
TEACHER: Style = {"color": "black", "linestyle": "--", "linewidth": 1.2}
DOT: Style = {"marker": "o", "markersize": 4}
STAR: Style = {"color": "black", "linestyle": "", "marker": "*", "markersize": 13}
FRONT: Style = {"color": "#999999", "linewidth": 5, "alpha": 0.35, "zorder": 1}
LOOK: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.hashsalt": "stagewise-kd",
}


def draw(groups: Sequence[Group], table: pd.DataFrame) -> dict[str, Figure]:
    """All figures that the runs of one data set have something to show in.

    Args:
        groups: from `told_apart`.
        table: from `summary`, of these groups and their teachers.

    Returns:
        Of "curves", "graft", "pareto" and "classes" those there are.
    """
    with matplotlib.rc_context(LOOK):
        found = {
            "curves": learning_curves(groups),
            "graft": graft_scores(groups, table),
            "pareto": cost_and_score(groups, table),
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
    figure = _figure(3.2 * wide + 1, 2.4 * high, len(groups))
    for place, (name, monitor) in enumerate(panels, 1):
        axes = figure.add_subplot(high, wide, place)
        axes.set(title=name, ylabel=f"val {monitor}", xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for number, run, stage in lines:
            if (stage["name"], stage["best"]["monitor"]) == (name, monitor):
                rows = run.metrics
                rows = rows[(rows["stage"] == name) & (rows["name"] == f"val/{monitor}")]
                _curve(axes, rows, stage["best"], number)
        if monitor == "loss":
            _log_scale(axes)
    return _with_legend(figure, [_line(number) for number in range(len(groups))], groups)


def graft_scores(groups: Sequence[Group], table: pd.DataFrame) -> Figure | None:
    """Score of the student's blocks so far inside the teacher, by stage; the teacher dashed."""
    metric = main_metric(groups[0].runs[0].result)
    grafts = [
        (number, {s["name"]: s["graft"][metric] for s in run.result["stages"] if s.get("graft")})
        for number, group in enumerate(groups)
        for run in group.runs
    ]
    longest = sorted((scores for _, scores in grafts), key=len, reverse=True)
    names = list(dict.fromkeys(name for scores in longest for name in scores))
    if not names:
        return None
    drawn = {number for number, scores in grafts if scores}
    figure = _figure(6.4, 3.4, len(drawn) + 1)
    axes = figure.add_subplot()
    axes.set(ylabel=f"val {metric} of the graft", xlabel="student blocks inside the teacher up to")
    axes.set_xticks(range(len(names)), names)
    for number, scores in grafts:
        places = [names.index(name) for name in scores]
        axes.add_line(_line(number, places, list(scores.values()), **DOT))
    for row in _teachers(table):
        axes.axhline(row[metric], **TEACHER)
    axes.autoscale_view()
    lines = [_line(number, **DOT) for number in drawn]
    teacher = Line2D([], [], **TEACHER, label="teacher, test split")
    return _with_legend(figure, [*lines, teacher], [groups[number] for number in drawn])


def cost_and_score(groups: Sequence[Group], table: pd.DataFrame) -> Figure | None:
    """Main metric against multiply-adds, with the Pareto front."""
    metric = main_metric(groups[0].runs[0].result)
    figure = _figure(6.4, 4.2, len(groups) + 1)
    axes = figure.add_subplot()
    scale, unit = (1e9, "billion") if table["macs"].max() >= 1e9 else (1e6, "million")
    points = [(row["macs"] / scale, float(row[metric])) for _, row in table.iterrows()]
    axes.plot(*zip(*_front(points, table["protocol"]), strict=True), **FRONT)
    for (cost, score), (_, row) in zip(points, table.iterrows(), strict=True):
        if row["method"] == "teacher":
            axes.plot(cost, score, **STAR)
            continue
        number = [group.name for group in groups].index(row["name"])
        error = None if pd.isna(row[f"{metric}_std"]) else float(row[f"{metric}_std"])
        axes.errorbar(cost, score, error, capsize=3, color=_colour(number), zorder=2)
        axes.add_line(_mark(number, [cost], [score]))
    axes.set(xlabel=f"multiply-adds for one image, {unit}", ylabel=f"test {metric}")
    axes.margins(0.12)
    marks = [_mark(number) for number in range(len(groups))]
    more = [Line2D([], [], **STAR, label="teacher"), Line2D([], [], **FRONT, label="Pareto front")]
    return _with_legend(figure, [*marks, *more], groups)


def class_scores(table: pd.DataFrame) -> Figure | None:
    """IoU of every class and network in percent, numbers on a colour scale."""
    names = [name for name in table if name.startswith("iou/")]
    if not names:
        return None
    scores = 100 * table[names].astype(float).T
    figure = _figure(2 + 1.3 * len(table), 1.6 + 0.32 * len(names), 0)
    axes = figure.add_subplot()
    axes.imshow(scores, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for row, column in ((r, c) for r in range(len(names)) for c in range(len(table))):
        value = scores.iat[row, column]
        if not math.isnan(value):
            colour = "black" if value > 50 else "white"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour)
    axes.grid(False)
    axes.set_yticks(range(len(names)), [name.removeprefix("iou/") for name in names])
    axes.set_xticks(range(len(table)), [_narrow(name) for name in table["name"]])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    return figure


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Numbers of the points (cost, score) that no other beats: none costs less and scores more.

    A point is beaten by one that is at least as good in both and better in one.
    """
    return [
        number
        for number, (cost, score) in enumerate(points)
        if not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
    ]


def save(figure: Figure, path: Path) -> str:
    """Write a figure as PNG and SVG, and give the text of the SVG.

    Args:
        figure: from `draw`.
        path: without suffix.
    """
    svg = StringIO()
    with matplotlib.rc_context(LOOK):
        figure.savefig(svg, format="svg", metadata={"Date": None})
        write_text(path.with_name(f"{path.name}.svg"), svg.getvalue())
        png = path.with_name(f"{path.name}.png")
        write_whole(png, lambda file: figure.savefig(file, format="png", dpi=200))
    return svg.getvalue()


def _front(points: Sequence[tuple[float, float]], protocols: Iterable[Any]) -> list[Any]:
    """The Pareto front from left to right; scores of the paper's protocol not beside others."""
    kinds = [str(protocol) for protocol in protocols]
    unfair = "paper" if "holdout" in kinds else ""
    fair = [point for point, kind in zip(points, kinds, strict=True) if kind != unfair]
    return sorted(fair[number] for number in pareto_front(fair))


def _curve(axes: Axes, history: pd.DataFrame, best: dict[str, Any], number: int) -> None:
    axes.add_line(_line(number, history["epoch"] + 1, history["value"]))
    axes.plot(best["epoch"] + 1, best["value"], "o", color=_colour(number), markersize=4)
    axes.autoscale_view()


def _log_scale(axes: Axes) -> None:
    """A logarithmic axis where values spread wide enough for one to say more."""
    low, high = axes.dataLim.intervaly
    if low > 0 and high > 5 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())


def _teachers(table: pd.DataFrame) -> Iterator[Any]:
    return (row for _, row in table[table["method"] == "teacher"].iterrows())


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _line(number: int, x: Any = (), y: Any = (), **style: Any) -> Line2D:
    """The line of a group: its colour, and other dashes where colours run out."""
    dashes = DASHES[number // len(COLOURS) % len(DASHES)]
    return Line2D(x, y, color=_colour(number), linestyle=dashes, linewidth=1.5, **style)


def _mark(number: int, x: Any = (), y: Any = ()) -> Line2D:
    """The mark of a group: its colour and shape."""
    shape = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
    return Line2D(x, y, color=_colour(number), linestyle="", marker=shape, markersize=7, zorder=3)


def _narrow(name: str) -> str:
    """A name in lines of about 18 letters."""
    lines = name.replace(", ", ",\n").splitlines()
    return "\n".join(textwrap.fill(line, 18, break_long_words=False) for line in lines)


def _figure(width: float, height: float, entries: int) -> Figure:
    """A figure, inches, with room below for a legend of so many entries."""
    return Figure(figsize=(width, height + 0.19 * entries), layout="constrained")


def _with_legend(figure: Figure, handles: list[Line2D], groups: Sequence[Group]) -> Figure:
    for handle, group in zip(handles, groups, strict=False):
        handle.set_label(textwrap.fill(group.name, 90))
    figure.legend(handles=handles, loc="outside lower left", frameon=False)
    return figure
