import pytest
import torch
from torch import tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from stagewise_kd.methods.feature_losses import (
    attention_transfer,
    channel_wise,
    flow,
    hierarchical,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def learns(loss, student, teacher) -> None:
    """A step against the gradient, of a student that is not the teacher, brings them nearer."""
    several = isinstance(student, tuple)
    own = [x.clone().requires_grad_() for x in (student if several else (student,))]
    before = loss(tuple(own) if several else own[0], teacher)
    before.backward()
    assert all(x.grad.abs().sum() > 0 for x in own)
    size = 1e-3 / max(x.grad.norm() for x in own)
    moved = [(x - size * x.grad).detach() for x in own]
    assert loss(tuple(moved) if several else moved[0], teacher) < before


def test_attention_transfer_hand_computed():
    student = tensor([[[[3.0, 4.0]]]])  # attention 9, 16; of unit norm by sqrt(337)
    teacher = tensor([[[[1.0, 0.0]], [[2.0, 0.0]]]])  # attention 5, 0: of unit norm 1, 0
    found = attention_transfer(student, teacher).item()
    norm = 337**0.5
    assert found == pytest.approx(((9 / norm - 1) ** 2 + (16 / norm) ** 2) / 2)


def test_attention_transfer_as_the_paper_writes_it():
    student, teacher = noise(3, 4, 2, 5), noise(3, 6, 2, 5, seed=1)
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        maps = [sum(channel.abs() ** 2 for channel in x).flatten() for x in (ours, theirs)]
        one, other = (q / q.norm(p=2) for q in maps)
        total += ((one - other).norm(p=2) ** 2).item()
    assert attention_transfer(student, teacher).item() == pytest.approx(total / 3 / 10, rel=1e-5)


def test_flow_hand_computed():
    one, two = tensor([[[[1.0, 2.0]]]]), tensor([[[[3.0, 4.0]], [[0.0, 1.0]]]])
    teacher = (torch.zeros(1, 1, 1, 2), torch.zeros(1, 2, 1, 2))
    # flows (1·3 + 2·4) / 2 and (2·1) / 2, against none
    assert flow((one, two), teacher).item() == pytest.approx(5.5**2 + 1)


def test_flow_is_not_rounded_by_autocast():
    given = [[torch.rand(2, 8, 6, 6) * 10 for _ in range(2)] for _ in range(2)]
    with torch.autocast("cpu", torch.bfloat16):
        found = flow(*given)
    assert found.item() == pytest.approx(flow(*given).item(), rel=1e-6)


def test_flow_as_the_paper_writes_it():
    student = noise(2, 3, 4, 4), noise(2, 5, 2, 2, seed=1)
    teacher = noise(2, 3, 4, 4, seed=2), noise(2, 5, 2, 2, seed=3)
    total = 0.0
    for n in range(2):
        matrices = []
        for first, second in (student, teacher):
            pooled = adaptive_max_pool2d(first[n], 2)
            matrices.append(
                [
                    [sum((pooled[i] * second[n, j]).flatten()).item() / 4 for j in range(5)]
                    for i in range(3)
                ]
            )
        total += ((tensor(matrices[0]) - tensor(matrices[1])) ** 2).sum().item()
    assert flow(student, teacher).item() == pytest.approx(total / 2, rel=1e-4)


def test_channel_wise_hand_computed():
    # T = 2, over two places: student (1/2, 1/2), teacher (3/4, 1/4)
    student, teacher = torch.zeros(1, 1, 1, 2), 2 * tensor([[[[3.0, 1.0]]]]).log()
    expected = 4 * (0.75 * tensor(1.5).log() + 0.25 * tensor(0.5).log()).item()
    assert channel_wise(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_channel_wise_as_the_paper_writes_it():
    student, teacher, temperature = noise(2, 3, 4, 5), noise(2, 3, 4, 5, seed=1), 4.0
    total = 0.0
    for n in range(2):
        for c in range(3):
            ours, theirs = ((x[n, c].flatten() / temperature).exp() for x in (student, teacher))
            phi, target = ours / ours.sum(), theirs / theirs.sum()
            total += sum(t * (t / p).log() for t, p in zip(target, phi, strict=True)).item()
    found = channel_wise(student, teacher, temperature).item()
    assert found == pytest.approx(temperature**2 / 3 * total / 2, rel=1e-3)


def test_hierarchical_hand_computed():
    student, teacher = tensor([[[[1.0, 3.0], [0.0, 0.0]]]]), torch.zeros(1, 1, 2, 2)
    # (1 + 9) / 4 of the map, 1 of its mean with half the weight
    assert hierarchical((student,), (teacher,)).item() == pytest.approx((2.5 + 0.5 * 1) / 1.5)


def test_hierarchical_as_the_paper_writes_it():
    student = noise(2, 3, 8, 8), noise(2, 4, 4, 4, seed=1)
    teacher = noise(2, 3, 8, 8, seed=2), noise(2, 4, 4, 4, seed=3)
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        weights, part = 1.0, ((ours - theirs) ** 2).mean().item()
        weight = 1.0
        for side in (4, 2, 1):
            if side < ours.shape[2]:
                weight /= 2
                pooled = adaptive_avg_pool2d(ours, side) - adaptive_avg_pool2d(theirs, side)
                part += weight * (pooled**2).mean().item()
                weights += weight
        total += part / weights
    assert hierarchical(student, teacher).item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("loss", [attention_transfer, channel_wise])
def test_a_step_down_the_gradient(loss):
    learns(loss, noise(2, 3, 4, 4), noise(2, 3, 4, 4, seed=1))


@pytest.mark.parametrize("loss", [flow, hierarchical])
def test_a_step_down_the_gradient_of_several(loss):
    student = noise(2, 3, 4, 4), noise(2, 5, 2, 2, seed=1)
    learns(loss, student, tuple(noise(*x.shape, seed=7) for x in student))


@pytest.mark.parametrize("loss", [attention_transfer, channel_wise])
def test_maps_of_other_resolution_are_refused(loss):
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 4\), the teacher \(1, 2, 2, 2\)"):
        loss(noise(1, 2, 4, 4), noise(1, 2, 2, 2))
    with pytest.raises(ValueError, match="compares maps"):
        loss(noise(1, 2, 4), noise(1, 2, 4))


@pytest.mark.parametrize("loss", [flow, hierarchical])
def test_maps_of_other_channels_are_refused(loss):
    student = noise(1, 3, 4, 4), noise(1, 5, 2, 2)
    with pytest.raises(ValueError, match="the student gives"):
        loss(student, (noise(1, 3, 4, 4), noise(1, 6, 2, 2)))


def test_channel_wise_refuses_other_channels():
    with pytest.raises(ValueError, match="channel_wise: the student gives"):
        channel_wise(noise(1, 2, 4, 4), noise(1, 3, 4, 4))
