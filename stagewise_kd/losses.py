"""Losses between a student's and a teacher's feature."""

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
    if student.shape != teacher.shape:
        raise ValueError(
            f"mse: the student gives {tuple(student.shape)}, the teacher {tuple(teacher.shape)}"
        )
    return F.mse_loss(student.float(), teacher.float())


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """T² KL(teacher ‖ student) of logits softened by T (Hinton et al. 2015, section 2).

    Args:
        student: logits, (B, K) or (B, K, H, W): classes along dimension 1.
        teacher: logits of the same shape, no gradient.
        temperature: T, at least 1 as a rule.

    Returns:
        Scalar, mean over the batch and, where there are any, over the pixels.

    Raises:
        ValueError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"soft_cross_entropy: the student gives {tuple(student.shape)}, "
            f"the teacher {tuple(teacher.shape)}"
        )
    log_p = F.log_softmax(student.float() / temperature, dim=1)
    log_q = F.log_softmax(teacher.float() / temperature, dim=1)
    divergence = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=1)
    return divergence.mean() * temperature**2
