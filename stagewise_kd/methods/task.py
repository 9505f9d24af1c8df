"""What the engine needs to know of a task."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor
from torchmetrics import MetricCollection

from stagewise_kd.methods.plan import Monitor


class Task(Protocol):
    """A kind of labels: how to learn them and how to score a prediction."""

    @property
    def name(self) -> str:
        """What result.json calls it."""
        ...

    @property
    def monitor(self) -> Monitor:
        """The main figure, and its direction."""
        ...

    @property
    def columns(self) -> Sequence[str]:
        """The figures that a table shows, the main one first."""
        ...

    @property
    def void(self) -> int | None:
        """What stands for no label; None where all have one."""
        ...

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of logits (B, K, …) against labels (B, …)."""
        ...

    def as_labels(self, labels: Tensor, images: Tensor) -> Tensor:
        """Labels (B, …) of images (B, C, H, W) as loss and metrics take them.

        Raises:
            UserError: they are no labels of this task.
        """
        ...

    def metrics(self) -> MetricCollection:
        """Fresh metrics of logits and labels; figures are fractions in [0, 1]."""
        ...
