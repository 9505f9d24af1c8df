"""What the engine needs to know of a task."""

from typing import Protocol

from torch import Tensor
from torchmetrics import MetricCollection

from stagewise_kd.methods.plan import Monitor


class Task(Protocol):
    """A kind of labels: how to learn them and how to score a prediction."""

    name: str
    monitor: Monitor

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of logits (B, K, …) against labels (B, …)."""
        ...

    def metrics(self) -> MetricCollection:
        """Fresh metrics of logits and labels; figures are fractions in [0, 1]."""
        ...
