import pandas as pd

from benchmarks import results  # imports all that `make bench` runs
from benchmarks.frontier import draw
from benchmarks.stagewise import parse


def test_every_small_benchmark_is_a_command():
    assert [parse(line.split()).unet for line in results.SMALL] == [False, True]


def test_frontier_has_a_line_a_way():
    rows = [(way, n, n + 1, 0.5) for way in ("hinton", "concurrent") for n in (60, 120)]
    (axes,) = draw(pd.DataFrame(rows, columns=["way", "budget", "seconds", "accuracy"])).axes
    assert [list(line.get_xdata()) for line in axes.get_lines()] == [[61, 121], [61, 121]]
