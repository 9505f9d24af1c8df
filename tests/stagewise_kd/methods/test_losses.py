import math

import pytest
import torch

from stagewise_kd.methods.losses import mse, relative_mse, soft_cross_entropy


def test_mse_hand_computed():
    student = torch.tensor([[[[1.0, 2.0]]]], requires_grad=True)
    teacher = torch.tensor([[[[3.0, 5.0]]]])
    loss = mse(student, teacher)
    assert loss.item() == pytest.approx((4 + 9) / 2)
    loss.backward()
    assert student.grad.flatten().tolist() == pytest.approx([-2.0, -3.0])


def test_mse_refuses_to_broadcast():
    with pytest.raises(
        ValueError, match=r"student gives \(1, 1, 1, 2\), the teacher \(1, 2, 1, 2\)"
    ):
        mse(torch.zeros(1, 1, 1, 2), torch.zeros(1, 2, 1, 2))


def test_soft_cross_entropy_hand_computed():
    # T = 2: student (1/2, 1/2), teacher (3/4, 1/4)
    student = torch.tensor([[0.0, 0.0]])
    teacher = torch.tensor([[2 * math.log(3), 0.0]])
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert soft_cross_entropy(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-6)


def test_soft_cross_entropy_is_a_mean_over_pixels():
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    pixels = [
        soft_cross_entropy(student[i, :, y, x][None], teacher[i, :, y, x][None]).item()
        for i in range(2)
        for y in range(4)
        for x in range(5)
    ]
    found = soft_cross_entropy(student, teacher).item()
    assert found == pytest.approx(sum(pixels) / len(pixels), rel=1e-4)


def test_soft_cross_entropy_gradient_vanishes_at_the_teacher():
    student = torch.tensor([[1.0, 2.0, 0.5]], requires_grad=True)
    soft_cross_entropy(student, student.detach().clone()).backward()
    assert student.grad.abs().max().item() < 1e-6


def test_soft_cross_entropy_refuses_other_classes():
    with pytest.raises(ValueError, match="teacher"):
        soft_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 4))


def test_soft_cross_entropy_of_one_logit_is_that_of_a_sigmoid():
    student, teacher = torch.tensor([[0.0]]), torch.tensor([[2 * math.log(3)]])
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert soft_cross_entropy(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-6)


def test_relative_mse_hand_computed():
    teacher = torch.tensor([[[[0.0, 4.0]]]])  # variance 4
    assert relative_mse(torch.tensor([[[[1.0, 2.0]]]]), teacher).item() == pytest.approx(2.5 / 4)
    assert relative_mse(torch.full_like(teacher, 2.0), teacher).item() == pytest.approx(1)


def test_relative_mse_of_a_constant_feature_is_finite():
    assert relative_mse(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)).item() == 0
