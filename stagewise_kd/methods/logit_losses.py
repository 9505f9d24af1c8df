"""Losses between logits, each of the paper that it names; classes lie along dimension 1."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stagewise_kd.methods.losses import check_alike, two_or_more


def decoupled(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor | None = None,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """Target and other classes apart: T² (α TCKD + β NCKD) (Zhao et al. 2022, eq. 7).

    TCKD = KL of (p_t, 1 − p_t), the target class against all others; NCKD = KL of the softmax over
    the others alone; teacher ‖ student in both.

    Args:
        student: logits, (B, K) or (B, K, H, W).
        teacher: of the same shape, no gradient.
        labels: target classes, (B,) or (B, H, W), those out of range left out; None: the classes
            that the teacher chooses.
        alpha: weight of the target class.
        beta: weight of the others.
        temperature: T.

    Returns:
        Scalar, mean over the images, or pixels, that have a label.

    Raises:
        ValueError: the shapes differ.
    """
    check_alike("decoupled", student, teacher)
    ours, theirs = (_rows(logits) / temperature for logits in (student, teacher))
    target = theirs.argmax(dim=1) if labels is None else labels.flatten().long()
    if len(target) != len(ours):
        raise ValueError(
            f"decoupled: the student gives {tuple(student.shape)}, the labels are of {len(target)}"
        )
    counts = (target >= 0) & (target < ours.shape[1])
    mask = F.one_hot(target.where(counts, 0), ours.shape[1]).bool()
    log_p, log_q = (_target_and_rest(logits, mask) for logits in (ours, theirs))
    others, theirs_others = (
        F.log_softmax(logits.masked_fill(mask, -torch.inf), dim=1) for logits in (ours, theirs)
    )
    nckd = (theirs_others.exp() * (theirs_others - others).masked_fill(mask, 0)).sum(dim=1)
    each = alpha * _divergence(log_q, log_p) + beta * nckd
    return (each * counts).sum() / counts.sum().clamp_min(1) * temperature**2


def _target_and_rest(logits: Tensor, mask: Tensor) -> Tensor:
    """Log probabilities of the target class and of all others together, (N, 2)."""
    parts = (logits.masked_fill(~mask, -torch.inf), logits.masked_fill(mask, -torch.inf))
    return F.log_softmax(torch.stack([part.logsumexp(dim=1) for part in parts], dim=1), dim=1)


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    return (teacher.exp() * (teacher - student)).sum(dim=1)


def correlated(
    student: Tensor,
    teacher: Tensor,
    beta: float = 2.0,
    gamma: float = 2.0,
    temperature: float = 1.0,
) -> Tensor:
    """T² (β inter + γ intra), each 1 less a mean correlation (Huang et al. 2022, eq. 7 to 10).

    Pearson's, between the probabilities of student and teacher: of the classes of an image (inter),
    and of the images of a class (intra). Pixels count as images.

    Args:
        student: logits, (B, K) or (B, K, H, W).
        teacher: of the same shape, no gradient.
        beta: weight of inter.
        gamma: weight of intra.
        temperature: T.

    Returns:
        Scalar.

    Raises:
        ValueError: the shapes differ.
    """
    check_alike("correlated", student, teacher)
    ours, theirs = (F.softmax(_rows(x) / temperature, dim=1) for x in (student, teacher))
    inter, intra = (1 - _correlation(ours, theirs, dim).mean() for dim in (1, 0))
    return (beta * inter + gamma * intra) * temperature**2


def _correlation(one: Tensor, other: Tensor, dim: int) -> Tensor:
    ours, theirs = (x - x.mean(dim=dim, keepdim=True) for x in (one, other))
    return F.cosine_similarity(ours, theirs, dim=dim)


def directions(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance between logits of unit norm (Shen et al. 2021, section 3.4).

    Args:
        student: logits, (B, K) or (B, K, H, W).
        teacher: of the same shape, no gradient.

    Returns:
        Scalar, summed over the classes, mean over the batch and, where there are any, the pixels.

    Raises:
        ValueError: the shapes differ, or there is one class alone, which has no direction.
    """
    check_alike("directions", student, teacher)
    if student.shape[1] < 2:
        raise ValueError("directions: one logit has a sign, but no direction; use two classes")
    ours, theirs = (F.normalize(logits.float(), dim=1) for logits in (student, teacher))
    return (ours - theirs).pow(2).sum(dim=1).mean()


def _rows(logits: Tensor) -> Tensor:
    """Logits of each image or pixel, (N, K)."""
    wide = two_or_more(logits.float())
    return wide.movedim(1, -1).reshape(-1, wide.shape[1])
