"""Losses between feature maps, each of the paper that it names."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stagewise_kd.methods.losses import check_alike

LEVELS = (4, 2, 1)  # sides of the pooled maps of `hierarchical`


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance between unit-norm attention maps (Zagoruyko & Komodakis 2017, eq. 2).

    The attention of a place is the sum of the squares of its channels.

    Args:
        student: features, (B, Cs, H, W).
        teacher: features, (B, Ct, H, W), no gradient.

    Returns:
        Scalar, mean over the batch and over the places, by which the paper divides its weight.

    Raises:
        ValueError: H, W differ, or one is no map.
    """
    _check_places("attention_transfer", student, teacher)
    ours, theirs = (
        F.normalize(feature.float().pow(2).mean(dim=1).flatten(1), dim=1)
        for feature in (student, teacher)
    )
    return (ours - theirs).pow(2).mean()


def flow(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Squared distance between the flows of two layers (Yim et al. 2017, eq. 1 and 2).

    A flow is the inner product of each channel of one layer with each channel of the other, over
    their places: G = Σ F1 F2 / (H W), (C1, C2). Of different resolutions the larger one is
    max-pooled to the smaller.

    Args:
        student: features of two layers, (B, C1, H, W) and (B, C2, H', W').
        teacher: likewise, of the same channels, no gradient.

    Returns:
        Scalar, summed over the matrix, mean over the batch.

    Raises:
        ValueError: the channels differ, or one is no map.
    """
    for ours, theirs in zip(student, teacher, strict=True):
        _check_places("flow", ours, theirs)
    ours, theirs = _flow(*student), _flow(*teacher)
    check_alike("flow", ours, theirs)
    return (ours - theirs).pow(2).sum(dim=(1, 2)).mean()


def _flow(first: Tensor, second: Tensor) -> Tensor:
    sides = [min(pair) for pair in zip(first.shape[2:], second.shape[2:], strict=True)]
    one, two = (F.adaptive_max_pool2d(x.float(), sides).flatten(2) for x in (first, second))
    with torch.autocast(one.device.type, enabled=False):  # which rounds products, float32 or not
        return one @ two.transpose(1, 2) / one.shape[2]


def channel_wise(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """T² KL(teacher ‖ student) of each channel over its places (Shu et al. 2021, eq. 3 and 4).

    Args:
        student: features or logits, (B, C, H, W); the softmax is over the places of a channel.
        teacher: of the same shape, no gradient.
        temperature: T.

    Returns:
        Scalar, mean over the batch and the channels.

    Raises:
        ValueError: the shapes differ, or one is no map.
    """
    _check_places("channel_wise", student, teacher)
    check_alike("channel_wise", student, teacher)
    log_p, log_q = (
        F.log_softmax(x.float().flatten(2) / temperature, dim=2) for x in (student, teacher)
    )
    divergence = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=2)
    return divergence.mean() * temperature**2


def hierarchical(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean squared error at several scales (Chen et al. 2021, arXiv 2104.09044, section 3.4).

    The maps themselves and what is left of them pooled to sides of 4, 2 and 1, each scale of half
    the weight of the one before; a scale that is not smaller than the map is left out.

    Args:
        student: features, each (B, C, H, W).
        teacher: of the same shapes, no gradient.

    Returns:
        Scalar, weighted mean over the scales, sum over the features.

    Raises:
        ValueError: shapes differ.
    """
    return torch.stack([_scales(*pair) for pair in zip(student, teacher, strict=True)]).sum()


def _scales(student: Tensor, teacher: Tensor) -> Tensor:
    check_alike("hierarchical", student, teacher)
    _check_places("hierarchical", student, teacher)
    ours, theirs = student.float(), teacher.float()
    sides = [side for side in LEVELS if side < student.shape[2]]
    pooled = [[F.adaptive_avg_pool2d(x, side) for x in (ours, theirs)] for side in sides]
    errors = [F.mse_loss(one, other) for one, other in ([ours, theirs], *pooled)]
    weights = [0.5**place for place in range(len(errors))]
    total = sum(weight * error for weight, error in zip(weights, errors, strict=True))
    return torch.as_tensor(total / sum(weights))


def _check_places(loss: str, student: Tensor, teacher: Tensor) -> None:
    if not (student.ndim == teacher.ndim == 4 and student.shape[2:] == teacher.shape[2:]):
        raise ValueError(
            f"{loss}: the student gives {tuple(student.shape)}, the teacher "
            f"{tuple(teacher.shape)}; it compares maps (B, C, H, W) of one resolution"
        )
