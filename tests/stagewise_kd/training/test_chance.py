from dataclasses import replace

import pytest
import torch
from torch import nn

from stagewise_kd.data.loaders import Data
from stagewise_kd.networks.blocks import Block, BlockNet
from stagewise_kd.runs.foreign import check_teacher
from stagewise_kd.system.errors import UserError
from stagewise_kd.training.chance import Standing, standing
from tests.conftest import Pictures
from tests.engine import make_setup


def network(weight: torch.Tensor, *more: nn.Module) -> BlockNet:
    """Logits are mixtures of the image's channels."""
    layer = nn.Conv2d(3, len(weight), 1)
    layer.weight.data, layer.bias.data = weight.view(len(weight), 3, 1, 1), torch.zeros(len(weight))
    model = nn.Sequential(layer, *more)
    return BlockNet(model, [Block("head", model, ("image",), "head")], [0.0] * 3, [1.0] * 3)


def classifier(weight: torch.Tensor) -> BlockNet:
    return network(weight, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def setup_of(val, teacher=None):
    data = Data(val, val, val, (3, 8, 8), "hash", {})
    return replace(make_setup(), data=data, teacher=teacher)


RIGHT = torch.eye(3)
WRONG = torch.eye(3).roll(1, 0)
CONSTANT = torch.tensor([[1.0] * 3, [0.0] * 3, [0.0] * 3])


@pytest.mark.parametrize(
    ("weight", "count", "right", "doubtful", "hopeless"),
    [
        (RIGHT, 24, 1, False, False),
        (WRONG, 24, 0, True, True),
        (CONSTANT, 240, 1 / 3, True, True),
        (CONSTANT, 6, 1 / 3, True, False),  # so few images prove nothing
    ],
)
def test_a_teacher_against_chance(weight, count, right, doubtful, hopeless):
    found = standing(classifier(weight), setup_of(Pictures(count, 0)))
    assert found.images == count
    assert found.right == pytest.approx(right)
    assert found.chance == pytest.approx(1 / 3)
    assert (found.doubtful, found.hopeless) == (doubtful, hopeless)


def test_of_many_images_some_that_are_spread_evenly():
    assert standing(classifier(RIGHT), setup_of(Pictures(1100, 0))).images == 367


def test_what_is_wanted_of_few_classes_and_of_many():
    wanted = [Standing(100, 0.5, 0.6, chance).wanted for chance in (0.5, 0.9, 0.1, 0.001)]
    assert wanted == pytest.approx([0.6, 0.92, 0.2, 0.002])


class Masks(torch.utils.data.Dataset):
    """Left half class 0, right half class 1 but for a column without a label."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, number: int):
        mask = torch.zeros(4, 4, dtype=torch.uint8)
        mask[:, 2:] = 1
        mask[:, 3] = 255
        return torch.stack([255 * (mask == 0), 255 * (mask == 1), 0 * mask]).to(torch.uint8), mask


def test_masks_count_by_pixels_that_have_a_label():
    blank = torch.tensor([[0.0] * 3] * 2)
    found = [standing(network(w), setup_of(Masks())) for w in (RIGHT[:2], blank, RIGHT[:2].flip(0))]
    assert [item.right for item in found] == pytest.approx([1, 2 / 3, 0])
    assert found[1].chance == pytest.approx(2 / 3)  # as often as class 0 is there
    assert [item.doubtful for item in found] == [False, True, True]


def test_labels_that_are_no_classes():
    pictures = Pictures(6, 0)
    pictures.labels = torch.rand(6)
    assert standing(classifier(RIGHT), setup_of(pictures)) is None


def test_a_teacher_that_was_given_stops_the_run_and_one_of_its_own_warns(capsys):
    setup = setup_of(Pictures(24, 0), classifier(WRONG))
    with pytest.raises(UserError, match=r"right on 0.0% of 24 .*33.3%.*a, b, c.*check=false"):
        check_teacher(setup, "stop", ["a", "b", "c"])
    check_teacher(setup, "none", ["a", "b", "c"])
    assert capsys.readouterr().err == ""
    check_teacher(setup, "warn", ["a", "b", "c"])
    assert "warning: the teacher is right on 0.0% of 24" in capsys.readouterr().err
