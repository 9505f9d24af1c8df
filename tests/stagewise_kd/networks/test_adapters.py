import pytest
import torch
from torch import nn

from stagewise_kd.networks.adapters import adapter

IMAGE = (3, 48, 64)


def given(shape: tuple[int, ...], wanted: tuple[int, ...], resize: bool = False) -> torch.Tensor:
    made = adapter(shape, wanted, IMAGE, resize)
    assert made is not None
    return made(torch.rand(2, *shape))


def test_equal_shapes_need_none():
    assert adapter((4, 6, 8), (4, 6, 8), IMAGE, False) is None


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((4, 6, 8), (5, 6, 8)),  # map to map
        ((6, 8, 4), (6, 8, 5)),  # channels last
        ((4, 6, 8), (6, 8, 5)),  # map to channels last
        ((6, 8, 4), (5, 6, 8)),  # and back
        ((48, 4), (48, 5)),  # tokens
    ],
)
def test_of_one_resolution_only_the_width_and_its_place_change(shape, wanted):
    assert given(shape, wanted).shape == (2, *wanted)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((4, 12, 16), (5, 6, 8)),
        ((4, 6, 8), (12, 16, 5)),
        ((4, 6, 8), (49, 5)),  # tokens with a class token
        ((49, 4), (5, 6, 8)),
        ((12, 4), (49, 5)),  # of another patch size
    ],
)
def test_resized_where_the_user_asks(shape, wanted):
    assert given(shape, wanted, resize=True).shape == (2, *wanted)
    with pytest.raises(ValueError, match=r"only widths may differ.*match.resize=true"):
        adapter(shape, wanted, IMAGE, False)


def test_values_keep_their_places():
    """Tokens of a grid of 6 × 8 behind a class token become that map, each where it was."""
    made = adapter((49, 1), (1, 6, 8), IMAGE, True)
    assert isinstance(made, nn.Sequential)
    conv = made[2]
    nn.init.ones_(conv.weight)
    nn.init.zeros_(conv.bias)
    tokens = torch.arange(49.0).reshape(1, 49, 1)
    assert made(tokens).equal(torch.arange(1.0, 49.0).reshape(1, 1, 6, 8))


def test_the_class_token_is_learned_by_the_mean():
    made = adapter((1, 6, 8), (49, 1), IMAGE, True)
    assert isinstance(made, nn.Sequential)
    nn.init.ones_(made[2].weight)
    nn.init.zeros_(made[2].bias)
    tokens = made(torch.arange(48.0).reshape(1, 1, 6, 8))
    assert tokens.flatten().tolist() == [23.5, *range(48)]


def test_what_is_no_map_and_cannot_be_one():
    with pytest.raises(ValueError, match="a vector has no resolution"):
        adapter((4,), (5, 6, 8), IMAGE, True)
    with pytest.raises(ValueError, match="1 tokens do not lie on a grid"):
        adapter((1, 4), (5, 6, 8), IMAGE, True)


def test_half_precision_is_resized():
    made = adapter((4, 12, 16), (4, 6, 8), IMAGE, True)
    assert isinstance(made, nn.Sequential)
    feature = torch.rand(2, 4, 12, 16)
    found = made[1](feature.bfloat16())
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), made[1](feature), atol=0.02)
