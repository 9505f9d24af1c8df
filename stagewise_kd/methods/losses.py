"""Losses between a student's and a teacher's feature that several methods have."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of two features of one shape (Kulkarni et al. 2019, eq. 1).

    Args:
        student: features, (B, C, H, W).
        teacher: features, (B, C, H, W), no gradient.

    Returns:
        Scalar, mean over all elements.

    Raises:
        ValueError: the shapes differ.
    """
    check_alike("mse", student, teacher)
    return F.mse_loss(student.float(), teacher.float())


def relative_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error in units of the teacher feature's variance over the batch.

    The share of the teacher's variance that the student leaves unexplained: features of any scale
    can be added up.

    Args:
        student: features, (B, C, H, W).
        teacher: features, (B, C, H, W), no gradient.

    Returns:
        Scalar; 0 is a perfect match, 1 what the constant mean would give.

    Raises:
        ValueError: the shapes differ.
    """
    return mse(student, teacher) / teacher.float().var(correction=0).clamp_min(1e-8)


def soft_cross_entropy(
    student: Tensor, teacher: Tensor, temperature: float = 4.0, standardize: bool = False
) -> Tensor:
    """T² KL(teacher ‖ student) of logits softened by T (Hinton et al. 2015, section 2).

    Args:
        student: logits, (B, K) or (B, K, H, W): classes along dimension 1; one class alone stands
            for two, of which the first has the logit 0.
        teacher: logits of the same shape, no gradient.
        temperature: T, at least 1 as a rule.
        standardize: logits less their mean over the classes, in units of their standard deviation
            (Sun et al. 2024, arXiv 2403.01427, eq. 12): the student need not match their scale.

    Returns:
        Scalar, mean over the batch and, where there are any, over the pixels.

    Raises:
        ValueError: the shapes differ.
    """
    check_alike("soft_cross_entropy", student, teacher)
    both = [two_or_more(logits.float()) for logits in (student, teacher)]
    both = [standardized(logits) for logits in both] if standardize else both
    log_p, log_q = (F.log_softmax(logits / temperature, dim=1) for logits in both)
    divergence = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=1)
    return divergence.mean() * temperature**2


def standardized(logits: Tensor) -> Tensor:
    """Logits (B, K, …) less their mean over the classes, by their standard deviation."""
    centred = logits - logits.mean(dim=1, keepdim=True)
    # of the square a floor, for the gradient of a root ends at 0
    return centred / centred.pow(2).mean(dim=1, keepdim=True).clamp_min(1e-12).sqrt()


def two_or_more(logits: Tensor) -> Tensor:
    """Logits of at least two classes: a single one, x, becomes (0, x), whose softmax is sigmoid(x).

    Args:
        logits: (B, K, …).
    """
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


def check_alike(loss: str, student: Tensor, teacher: Tensor) -> None:
    """Check that two tensors have one shape, so that neither is broadcast.

    Raises:
        ValueError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"{loss}: the student gives {tuple(student.shape)}, the teacher {tuple(teacher.shape)}"
        )
