"""What figures are drawn with: Okabe and Ito's colours, which the colour-blind tell apart."""

import textwrap
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from stagewise_kd.system.files import write_text, write_whole

Style = dict[str, Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: Any = ("-", "--", "-.", ":")
MARKERS = "osD^vP"
WIDTH = 1.5  # of a line, in points
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


def save(figure: Figure, path: Path) -> str:
    """Write a figure as PNG and SVG, and give the text of the SVG.

    Args:
        figure: any.
        path: without suffix.
    """
    svg = StringIO()
    with matplotlib.rc_context(LOOK):
        figure.savefig(svg, format="svg", metadata={"Date": None})
        write_text(path.with_name(f"{path.name}.svg"), svg.getvalue())
        png = path.with_name(f"{path.name}.png")
        write_whole(png, lambda file: figure.savefig(file, format="png", dpi=200))
    return svg.getvalue()


def teachers(table: pd.DataFrame) -> Iterator[Any]:
    """The rows of the teachers."""
    return (row for _, row in table[table["method"] == "teacher"].iterrows())


def colour(number: int) -> str:
    """The colour of a group."""
    return COLOURS[number % len(COLOURS)]


def line(number: int, x: Any = (), y: Any = (), **style: Any) -> Line2D:
    """The line of a group: its colour, and other dashes where colours run out."""
    dashes = DASHES[number // len(COLOURS) % len(DASHES)]
    look = {"color": colour(number), "linestyle": dashes, "linewidth": WIDTH}
    return Line2D(x, y, **look | style)


def widths(curves: Sequence[Any]) -> list[float]:
    """Of each curve its width: wider where later ones are the same and would hide it."""
    return [WIDTH * (1 + 2 * curves[n + 1 :].count(curve)) for n, curve in enumerate(curves)]


def mark(number: int, x: Any = (), y: Any = ()) -> Line2D:
    """The mark of a group: its colour and shape."""
    shape = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
    return Line2D(x, y, color=colour(number), linestyle="", marker=shape, markersize=7, zorder=3)


def new_figure(width: float, height: float, entries: int) -> Figure:
    """A figure, inches, with room below for a legend of so many entries."""
    return Figure(figsize=(width, height + 0.19 * entries), layout="constrained")


def with_legend(figure: Figure, handles: list[Line2D], names: Sequence[str]) -> Figure:
    """Name the first handles, and list all of them below the figure."""
    for handle, name in zip(handles, names, strict=False):
        handle.set_label(textwrap.fill(name, 90))
    figure.legend(handles=handles, loc="outside lower left", frameon=False)
    return figure
