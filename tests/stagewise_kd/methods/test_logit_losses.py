import math

import pytest
import torch
from torch import tensor

from stagewise_kd.methods.logit_losses import correlated, decoupled, directions
from stagewise_kd.methods.losses import soft_cross_entropy

LOSSES = [decoupled, correlated, directions]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def softmax(logits: torch.Tensor) -> list[float]:
    powers = [math.exp(x) for x in logits.tolist()]
    return [x / sum(powers) for x in powers]


def divergence(teacher: list[float], student: list[float]) -> float:
    return sum(q * math.log(q / p) for q, p in zip(teacher, student, strict=True))


def test_decoupled_hand_computed():
    # student: all classes alike; teacher: 1/2 for the target, 3/8 and 1/8 for the others
    student, teacher = torch.zeros(1, 3), tensor([[4.0, 3.0, 1.0]]).log()
    target = 0.5 * math.log(0.5 / (1 / 3)) + 0.5 * math.log(0.5 / (2 / 3))
    others = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    found = decoupled(student, teacher, tensor([0]), alpha=2.0, beta=3.0, temperature=1.0)
    assert found.item() == pytest.approx(2 * target + 3 * others, rel=1e-5)


def test_decoupled_as_the_paper_writes_it():
    student, teacher, labels = noise(5, 4), noise(5, 4, seed=1), tensor([0, 3, 1, 1, 2])
    total = 0.0
    for ours, theirs, label in zip(student / 4, teacher / 4, labels.tolist(), strict=True):
        p, q = softmax(ours), softmax(theirs)
        rest = [k for k in range(4) if k != label]
        target = divergence([q[label], 1 - q[label]], [p[label], 1 - p[label]])
        total += 1.0 * target + 8.0 * divergence(
            [q[k] / (1 - q[label]) for k in rest], [p[k] / (1 - p[label]) for k in rest]
        )
    assert decoupled(student, teacher, labels).item() == pytest.approx(16 * total / 5, rel=1e-4)


def test_decoupled_with_the_teachers_own_weights_is_hintons():
    """KD = TCKD + (1 − q_t) NCKD (eq. 5): the paper's point of departure."""
    student, teacher = noise(1, 4), noise(1, 4, seed=1)
    confidence = softmax(teacher[0] / 4)[2]
    found = decoupled(student, teacher, tensor([2]), 1.0, 1 - confidence)
    assert found.item() == pytest.approx(soft_cross_entropy(student, teacher).item(), rel=1e-5)


def test_decoupled_leaves_void_out_and_takes_the_teachers_class_where_there_are_no_labels():
    student, teacher = noise(1, 3, 1, 2), noise(1, 3, 1, 2, seed=1)
    first = decoupled(student[..., :1], teacher[..., :1], tensor([[[1]]]))
    assert decoupled(student, teacher, tensor([[[1, 255]]])).item() == pytest.approx(first.item())
    assert decoupled(student, teacher, tensor([[[255, 255]]])).item() == 0
    own = decoupled(student, teacher, teacher.argmax(dim=1))
    assert decoupled(student, teacher).item() == own.item()


def test_correlated_hand_computed():
    student = tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]).log()
    teacher = tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log()
    # by image 1 and -1/2; by class 0: the teacher's are constant
    found = correlated(student, teacher, beta=2.0, gamma=3.0).item()
    assert found == pytest.approx(2 * (1 - 0.25) + 3 * 1, rel=1e-4)


def test_correlated_as_the_paper_writes_it():
    student, teacher = noise(6, 4), noise(6, 4, seed=1)

    def pearson(one, other):
        a, b = (tensor(x) - sum(x) / len(x) for x in (one, other))
        return ((a * b).sum() / (a.pow(2).sum() * b.pow(2).sum()).sqrt()).item()

    p, q = ([softmax(row / 2) for row in x] for x in (student, teacher))
    inter = sum(1 - pearson(*rows) for rows in zip(p, q, strict=True)) / 6
    columns = [list(zip(*x, strict=True)) for x in (p, q)]
    intra = sum(1 - pearson(*pair) for pair in zip(*columns, strict=True)) / 4
    found = correlated(student, teacher, 2.0, 3.0, 2.0).item()
    assert found == pytest.approx(4 * (2 * inter + 3 * intra), rel=1e-4)


def test_directions_hand_computed():
    student, teacher = tensor([[3.0, 4.0]]), tensor([[10.0, 0.0]])
    assert directions(student, teacher).item() == pytest.approx(0.4**2 + 0.8**2)


def test_directions_as_the_paper_writes_it():
    student, teacher = noise(5, 4), noise(5, 4, seed=1)
    total = 0.0
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        lengths = [math.sqrt(sum(x * x for x in row)) for row in (ours, theirs)]
        total += sum(
            (s / lengths[0] - t / lengths[1]) ** 2 for s, t in zip(ours, theirs, strict=True)
        )
    assert directions(student, teacher).item() == pytest.approx(total / 5, rel=1e-5)


def test_standardized_logits_as_the_paper_writes_it():
    student, teacher, temperature = noise(5, 4), noise(5, 4, seed=1), 2.0
    total = 0.0
    for rows in zip(student, teacher, strict=True):
        p, q = (
            softmax((row - row.mean()) / (((row - row.mean()) ** 2).sum() / 4).sqrt() / temperature)
            for row in rows
        )
        total += divergence(q, p)
    found = soft_cross_entropy(student, teacher, temperature, standardize=True).item()
    assert found == pytest.approx(4 * total / 5, rel=1e-4)
    scaled = soft_cross_entropy(5 * student + 1, teacher, temperature, standardize=True)
    assert scaled.item() == pytest.approx(found, rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_down_the_gradient(loss):
    student, teacher = noise(6, 4).requires_grad_(), noise(6, 4, seed=1)
    before = loss(student, teacher)
    before.backward()
    moved = (student - 1e-2 * student.grad / student.grad.norm()).detach()
    assert loss(moved, teacher) < before


@pytest.mark.parametrize("loss", [*LOSSES, soft_cross_entropy])
def test_equal_logits_have_a_finite_gradient(loss):
    same = torch.zeros(2, 3, requires_grad=True)
    options = {"standardize": True} if loss is soft_cross_entropy else {}
    loss(same, torch.zeros(2, 3), **options).backward()
    assert same.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_pixels_count_as_images(loss):
    student, teacher = noise(2, 3, 4, 5), noise(2, 3, 4, 5, seed=1)
    rows = [x.permute(0, 2, 3, 1).reshape(-1, 3) for x in (student, teacher)]
    assert loss(student, teacher).item() == pytest.approx(loss(*rows).item(), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_other_classes_are_refused(loss):
    with pytest.raises(ValueError, match=r"gives \(2, 3\), the teacher \(2, 4\)"):
        loss(torch.zeros(2, 3), torch.zeros(2, 4))


def test_what_else_is_refused():
    with pytest.raises(ValueError, match="has a sign, but no direction"):
        directions(torch.zeros(2, 1), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="the labels are of 3"):
        decoupled(torch.zeros(2, 4), torch.zeros(2, 4), torch.zeros(3))
