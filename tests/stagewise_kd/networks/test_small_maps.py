"""Convolutions of small maps: other arithmetic, the same values and gradients."""

import pytest
import torch
from torch import nn

from stagewise_kd.networks import small_maps
from stagewise_kd.networks.small_maps import products_on_small_maps


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 3), (4, 3)])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (5, 2), (2, 1), ((3, 1), (1, 0))])
@pytest.mark.parametrize("stride", [1, 2])
def test_values_and_gradients_are_those_of_the_convolution(
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    kernel: int | tuple[int, int],
    padding: int | tuple[int, int],
    stride: int,
) -> None:
    monkeypatch.setattr(small_maps, "CHANNELS", 0)  # every map is small
    conv = nn.Conv2d(5, 4, kernel, stride, padding, dtype=torch.double)
    image = torch.randn(2, 5, *size, dtype=torch.double, requires_grad=True)
    plain = conv(image)
    away = torch.randn_like(plain)
    expected = torch.autograd.grad(plain, [image, *conv.parameters()], away)
    with products_on_small_maps(conv):
        assert "forward" in vars(conv)
        found = conv(image)
        gradients = torch.autograd.grad(found, [image, *conv.parameters()], away)
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(gradients, expected)


def test_weights_that_meet_only_padding_get_no_gradient() -> None:
    conv = nn.Conv2d(64, 2, 3, padding=1)
    with products_on_small_maps(conv):
        conv(torch.randn(3, 64, 1, 1)).square().sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad[:, :, 1, 1].abs().min() > 0
    conv.weight.grad[:, :, 1, 1] = 0
    assert not conv.weight.grad.any()


def test_a_map_is_small_for_its_channels() -> None:
    conv = nn.Conv2d(128, 2, 3, padding=1)
    with products_on_small_maps(conv), torch.profiler.profile() as profile:
        conv(torch.randn(1, 128, 2, 2))
        conv(torch.randn(1, 128, 2, 3))
    counts = {event.key: event.count for event in profile.key_averages()}
    assert counts["aten::linear"] == 1
    assert counts["aten::conv2d"] == 1


def test_a_context_within_another_leaves_it_in_force() -> None:
    net = nn.Sequential(nn.Conv2d(64, 2, 3, padding=1), nn.Conv2d(2, 2, 3, groups=2))
    with products_on_small_maps(net):
        with products_on_small_maps(net, net[0]):
            pass
        assert "forward" in vars(net[0])
        assert "forward" not in vars(net[1])  # grouped
    assert "forward" not in vars(net[0])
