import pandas as pd

from benchmarks import results  # imports all that `make bench` runs
from benchmarks.frontier import draw
from benchmarks.stagewise import parse


def test_every_small_benchmark_is_a_command():
    assert [parse(line.split()).unet for line in results.SMALL] == [False, True]


def test_frontier_has_a_line_a_way():
    rows = [(way, seconds, 0.5) for way in ("hinton", "concurrent") for seconds in (60, 120)]
    (axes,) = draw(pd.DataFrame(rows, columns=["way", "seconds", "accuracy"])).axes
    assert [list(line.get_xdata()) for line in axes.get_lines()] == [[60, 120], [60, 120]]
