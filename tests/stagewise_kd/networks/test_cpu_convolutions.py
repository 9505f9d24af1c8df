"""Convolutions computed in another way: the same values and gradients."""

import pytest
import torch
from torch import nn

from stagewise_kd.networks import cpu_convolutions
from stagewise_kd.networks.cpu_convolutions import fast_convolutions
from stagewise_kd.networks.modes import forwards


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
    monkeypatch.setattr(cpu_convolutions, "CHANNELS", 0.1)  # every map is small
    conv = nn.Conv2d(5, 4, kernel, stride, padding, dtype=torch.double)
    image = torch.randn(2, 5, *size, dtype=torch.double, requires_grad=True)
    plain = conv(image)
    away = torch.randn_like(plain)
    expected = torch.autograd.grad(plain, [image, *conv.parameters()], away)
    with fast_convolutions(conv):
        assert "forward" in vars(conv)
        found = conv(image)
        gradients = torch.autograd.grad(found, [image, *conv.parameters()], away)
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(gradients, expected)


def test_weights_that_meet_only_padding_get_no_gradient() -> None:
    conv = nn.Conv2d(64, 2, 3, padding=1)
    with fast_convolutions(conv):
        conv(torch.randn(3, 64, 1, 1)).square().sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad[:, :, 1, 1].abs().min() > 0
    conv.weight.grad[:, :, 1, 1] = 0
    assert not conv.weight.grad.any()


def test_a_map_is_small_for_its_channels() -> None:
    conv = nn.Conv2d(128, 2, 3, padding=1)
    with fast_convolutions(conv), torch.profiler.profile() as profile:
        conv(torch.randn(1, 128, 2, 2))
        conv(torch.randn(1, 128, 2, 3))
    counts = {event.key: event.count for event in profile.key_averages()}
    assert counts["aten::linear"] == 1
    assert counts["aten::conv2d"] == 1


def test_an_image_that_is_too_small_is_refused_as_before() -> None:
    conv = nn.Conv2d(64, 2, 5)
    with fast_convolutions(conv), pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        conv(torch.randn(1, 64, 3, 3))


def test_a_forward_that_is_replaced_within_comes_back() -> None:
    conv = nn.Conv2d(64, 2, 3, padding=1)
    with fast_convolutions(conv):
        mine = conv.forward
        with forwards({conv: torch.zeros_like}):
            assert not conv(torch.ones(2)).any()
        assert conv.forward == mine
    assert "forward" not in vars(conv)


def test_a_context_within_another_leaves_it_in_force() -> None:
    net = nn.Sequential(nn.Conv2d(64, 2, 3, padding=1), nn.Conv2d(2, 2, 3, groups=2))
    with fast_convolutions(net):
        with fast_convolutions(net, net[0]):
            pass
        assert "forward" in vars(net[0])
        assert "forward" not in vars(net[1])  # grouped
    assert "forward" not in vars(net[0])


@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (3, 2)])
def test_depthwise_convolutions_learn_in_float32(kernel: int, stride: int) -> None:
    conv = nn.Conv2d(4, 4, kernel, stride, kernel // 2, groups=4)
    image = torch.randn(2, 4, 8, 8).bfloat16()
    exact = conv(image.float())
    away = torch.randn_like(exact).bfloat16()
    (expected,) = torch.autograd.grad(exact, conv.weight, away.float())
    with fast_convolutions(conv), torch.autocast("cpu", torch.bfloat16):
        found = conv(image)
        assert found.equal(exact.bfloat16())
        (gradient,) = torch.autograd.grad(found, conv.weight, away)
        with torch.no_grad():
            rounded = conv(image)
    assert gradient.equal(expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert rounded.equal(conv(image))
    assert not rounded.equal(found)


def test_other_depthwise_convolutions_stay_as_they_are() -> None:
    conv = nn.Conv2d(4, 4, 3, groups=4)
    with fast_convolutions(conv):
        assert "forward" not in vars(conv)
