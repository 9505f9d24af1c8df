import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks import results  # imports all that `make bench` runs
from benchmarks.frontier import draw
from benchmarks.stagewise import parse
from stagewise_kd.networks.cutting import cut
from stagewise_kd.networks.matching import matched
from stagewise_kd.networks.resnet import FEATURES, resnet


def test_every_small_benchmark_is_a_command():
    assert [parse(line.split()).unet for line in results.SMALL] == [False, True]


def test_frontier_has_a_line_a_way():
    rows = [(way, n, n + 1, 0.5) for way in ("hinton", "concurrent") for n in (60, 120)]
    (axes,) = draw(pd.DataFrame(rows, columns=["way", "budget", "seconds", "accuracy"])).axes
    assert [list(line.get_xdata()) for line in axes.get_lines()] == [[61, 121], [61, 121]]


def test_pruning_leaves_out_the_channels_of_least_magnitude_until_the_share_is_kept():
    pytest.importorskip("torch_pruning")
    from benchmarks.pruning import pruned

    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(4, 3))
    with torch.no_grad():
        model[0].weight[[1, 3]] = 0.0
        model[1].weight[:, [1, 3]] = 0.0
    # of 64 (3 · 4 + 4 · 4) + 4 · 3 = 1,804 multiply-adds 64 (3 · 2 + 2 · 4) + 12 = 908 are left
    smaller = pruned(model, torch.zeros(1, 3, 8, 8), 0.51)
    assert smaller[0].weight.equal(model[0].weight[[0, 2]])
    assert smaller[1].weight.equal(model[1].weight[:, [0, 2]])
    assert smaller[4].weight.equal(model[4].weight)
    assert model[0].out_channels == 4


def test_a_pruned_resnet_is_cut_and_matched_as_the_whole_one():
    pytest.importorskip("torch_pruning")
    from benchmarks.pruning import without

    torch.manual_seed(0)
    whole, image = resnet("resnet10", 3), torch.zeros(1, 3, 32, 32)
    net = cut(without(whole.model, image, 0.5), image.expand(2, -1, -1, -1))
    for each in (net, whole):
        each.measure((3, 32, 32))
    assert matched(net, whole) == tuple((name, name) for name in FEATURES)
    assert all(net.shapes[name][0] < whole.shapes[name][0] for name in FEATURES)
