"""Single-label classification as a task of the engine."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from stagewise_kd.methods.plan import Monitor


@dataclass(frozen=True)
class Classification:
    """Cross-entropy, scored by accuracy."""

    classes: int
    name: str = "classification"
    monitor: Monitor = Monitor("accuracy", "max")
    columns: Sequence[str] = ("accuracy",)

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of logits (B, K) against class indices (B,)."""
        return F.cross_entropy(logits.float(), labels)

    def metrics(self) -> MetricCollection:
        """Accuracy over images, and its mean over classes."""
        # Labels are in range by construction; checking each batch would halt a GPU.
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(self.classes, average="micro", validate_args=False),
                "balanced_accuracy": MulticlassAccuracy(self.classes, validate_args=False),
            }
        )
