"""The figure of a network's sizes."""

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from stagewise_kd.comparison.drawing import DOT, LOOK, line, new_figure, with_legend


def draw_sizes(table: pd.DataFrame, kind: str) -> Figure:
    """Loss against cost.

    Args:
        table: a row a size: share of the whole network's cost, predicted and measured loss.
        kind: of cost.
    """
    names = ("predicted", "measured")
    with matplotlib.rc_context(LOOK):
        figure = new_figure(6, 4, len(names))
        axes = figure.add_subplot()
        label = "divergence of the logits before training"
        axes.set(xlabel=f"share of the teacher's {kind}", ylabel=label, yscale="log")
        shown = table[table["share"] < 1]
        lines = [line(n, shown["share"], shown[name], **DOT) for n, name in enumerate(names)]
        for each in lines:
            axes.add_line(each)
        axes.autoscale_view()
        return with_legend(figure, lines, [f"{name} loss" for name in names])
