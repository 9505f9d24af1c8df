"""Single-label classification as a task of the engine."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassStatScores

from stagewise_kd.data.samples import UNKNOWN
from stagewise_kd.methods.plan import Monitor
from stagewise_kd.system.errors import UserError


class BalancedAccuracy(MulticlassStatScores):
    """Mean over classes of the share of their images that is right; over those with an image."""

    def __init__(self, classes: int) -> None:
        # Labels are in range by construction; checking each batch would halt a GPU.
        super().__init__(classes, average=None, validate_args=False)

    def compute(self) -> Tensor:
        """The mean, a fraction in [0, 1]."""
        hits, _, _, _, images = super().compute().unbind(dim=-1)
        there = images > 0
        return (hits[there] / images[there]).mean()


@dataclass(frozen=True)
class Classification:
    """Cross-entropy, scored by accuracy."""

    classes: int
    name: str = "classification"
    monitor: Monitor = Monitor("accuracy", "max", least=100)
    columns: Sequence[str] = ("accuracy",)
    void: int | None = None

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of logits (B, K) against class indices (B,).

        Images without a label count nowhere; it is 0 where a batch has none other.
        """
        total = F.cross_entropy(logits.float(), labels, ignore_index=UNKNOWN, reduction="sum")
        return total / (labels != UNKNOWN).sum().clamp_min(1)

    def as_labels(self, labels: Tensor, images: Tensor) -> Tensor:
        """Class indices (B,) as long integers.

        Raises:
            UserError: they are no class indices, or out of range.
        """
        if labels.ndim != 1 or labels.is_floating_point():
            raise UserError(
                f"labels are {labels.dtype} {tuple(labels.shape[1:])}; expected a class index, a "
                "whole number for each image"
            )
        wrong = labels[(labels < 0) | (labels >= self.classes)]
        if len(wrong):
            raise UserError(
                f"label {wrong[0].item()}: the networks know {self.classes} classes, "
                f"0 to {self.classes - 1}"
            )
        return labels.long()

    def metrics(self) -> MetricCollection:
        """Accuracy over images, and its mean over classes."""
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(self.classes, average="micro", validate_args=False),
                "balanced_accuracy": BalancedAccuracy(self.classes),
            }
        )
