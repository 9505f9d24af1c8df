import math

import pytest
import torch
import torch.nn.functional as F

from seg_kd.masks import VOID
from seg_kd.metrics import PublishedMeanIoU, SegmentationScores
from seg_kd.task import Segmentation
from stagewise_kd.system.errors import UserError

NAMES = ["sky", "road", "car"]


def logits(*masks: list[list[int]], classes: int = 3) -> torch.Tensor:
    """Logits that choose the classes of these masks."""
    return F.one_hot(torch.tensor(masks), classes).movedim(-1, 1).float()


def scores(predicted: torch.Tensor, truth: torch.Tensor, names=NAMES) -> dict[str, float]:
    found = Segmentation(names).metrics()
    found.update(predicted, truth.to(torch.uint8))
    return {name: value.item() for name, value in found.compute().items()}


def test_by_hand():
    truth = torch.tensor([[[0, 0, 0], [1, 1, VOID]]])
    found = scores(logits([[0, 0, 1], [1, 1, 2]]), truth)
    # sky: 2 of 3; road: 2 hits, 2 in truth, 3 predicted; car: in no label, its one pixel is void
    assert found["iou/sky"] == pytest.approx(2 / 3)
    assert found["iou/road"] == pytest.approx(2 / 3)
    assert "iou/car" not in found
    assert found["miou"] == pytest.approx(2 / 3)
    assert found["dice"] == pytest.approx((4 / 5 + 4 / 5) / 2)
    assert found["pixel_accuracy"] == pytest.approx(4 / 5)
    assert found["miou_paper"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_all_wrong():
    found = scores(logits([[1, 1], [1, 1]]), torch.zeros(1, 2, 2))
    assert (found["miou"], found["dice"], found["pixel_accuracy"]) == (0, 0, 0)
    assert found["miou_paper"] == pytest.approx(1 / 3)  # only the absent car counts, as 1


def test_a_class_predicted_but_in_no_label_is_left_out_and_costs_the_others():
    found = scores(logits([[0, 0], [0, 2]]), torch.zeros(1, 2, 2))
    assert found["miou"] == pytest.approx(3 / 4)
    assert found["miou_paper"] == pytest.approx((3 / 4 + 1 + 0) / 3)


def test_one_matrix_for_all_images_and_batches():
    metric, published = SegmentationScores(NAMES), PublishedMeanIoU(3)
    first = logits([[0, 0]], [[0, 1]]), torch.tensor([[[0, 0]], [[1, 1]]])
    second = logits([[1, 1]]), torch.tensor([[[1, 0]]])
    for batch in (first, second):
        metric.update(*batch)
        published.update(*batch)
    # sky: 2 hits, 3 in truth, 3 predicted; road: 2 hits, 3 in truth, 3 predicted
    assert metric.compute()["miou"].item() == pytest.approx(2 / 4)
    each = [(1 + 1 + 1) / 3, (0 + 1 / 2 + 1) / 3, (0 + 1 / 2 + 1) / 3]
    assert published.compute().item() == pytest.approx(sum(each) / 3)


def test_a_single_logit_is_a_binary_mask():
    found = scores(torch.tensor([[[[2.0, -1.0]]]]), torch.tensor([[[1, 1]]]), ["no", "yes"])
    assert found["iou/yes"] == pytest.approx(1 / 2)


class TestLoss:
    def test_void_does_not_count(self):
        x = torch.randn(2, 3, 4, 4)
        truth = torch.randint(0, 3, (2, 4, 4)).to(torch.uint8)
        truth[0, 0] = VOID
        kept = truth != VOID
        expected = F.cross_entropy(x.movedim(1, -1)[kept], truth[kept].long())
        assert Segmentation(NAMES).label_loss(x, truth).item() == pytest.approx(expected.item())

    @pytest.mark.parametrize("name", ["cross_entropy", "dice", "focal"])
    def test_void_alone_gives_no_loss_and_no_gradient(self, name):
        x = torch.randn(1, 3, 2, 2, requires_grad=True)
        loss = Segmentation(NAMES, [name]).label_loss(x, torch.full((1, 2, 2), VOID))
        loss.backward()
        assert loss.item() == 0
        assert x.grad.abs().sum() == 0

    def test_focal_by_hand(self):
        x = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2).repeat(1, 2, 1, 1)
        truth = torch.tensor([[[1, VOID]]])  # each class: a sigmoid of 1/2, (1 - 1/2)² ln 2
        loss = Segmentation(["no", "yes"], ["focal"]).label_loss(x, truth)
        assert loss.item() == pytest.approx(0.25 * math.log(2))

    def test_weights(self):
        x, truth = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 2]]])
        weights = [1.0, 2.0, 0.5]
        expected = F.cross_entropy(x, truth, torch.tensor(weights))
        loss = Segmentation(NAMES, class_weights=weights).label_loss(x, truth)
        assert loss.item() == pytest.approx(expected.item())

    def test_binary(self):
        x, truth = torch.randn(1, 1, 2, 2), torch.tensor([[[0, 1], [1, 0]]])
        expected = F.binary_cross_entropy_with_logits(x[:, 0], truth.float())
        loss = Segmentation(["no", "yes"]).label_loss(x, truth)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)

    def test_losses_add_up(self):
        x, truth = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
        names = ("cross_entropy", "dice", "focal")
        parts = [Segmentation(NAMES, [name]).label_loss(x, truth) for name in names]
        assert all(part > 0 for part in parts)
        total = Segmentation(NAMES, names).label_loss(x, truth)
        assert total.item() == pytest.approx(sum(part.item() for part in parts), rel=1e-5)

    def test_faults(self):
        with pytest.raises(UserError, match="give one or more of cross_entropy, dice, focal"):
            Segmentation(NAMES, ["bce"])

    @pytest.mark.parametrize(
        "weights", [["a", 2, 3], [-1, 2, 3], [0, 0, 0], [float("nan"), 1, 1], [1.0], "abc", 3]
    )
    def test_class_weights_that_weigh_nothing(self, weights):
        said = "give one number a class, none negative and not all 0; there are 3"
        with pytest.raises(UserError, match=said):
            Segmentation(NAMES, class_weights=weights)
