"""Semantic segmentation as a task of the engine."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import DiceLoss, FocalLoss
from torch import Tensor, nn
from torchmetrics import MetricCollection

from seg_kd.masks import VOID
from seg_kd.metrics import PublishedMeanIoU, SegmentationScores
from stagewise_kd.methods.losses import two_or_more
from stagewise_kd.methods.plan import Monitor
from stagewise_kd.system.errors import UserError

LossName = Literal["cross_entropy", "dice", "focal"]


def _are_weights(weights: Any, classes: int) -> bool:
    """Whether these are finite weights of so many classes."""
    return (
        isinstance(weights, list | tuple)
        and len(weights) == classes
        and all(isinstance(w, int | float) and 0 <= w < math.inf for w in weights)
        and any(weights)
    )


def _over_labelled(total: nn.Module, logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over labelled pixels of a loss that adds them up; 0 where a batch has none."""
    return total(logits, labels) / (labels != VOID).sum().clamp_min(1)


@dataclass(frozen=True)
class Segmentation:
    """One class a pixel, scored by mean IoU over the data set; void pixels count nowhere.

    Args:
        classes: class names.
        losses: which losses are added up: cross_entropy, dice, focal.
        class_weights: of cross-entropy, one a class; None for equal ones.

    Raises:
        UserError: a loss is unknown, or the weights are not one number a class, none negative
            and some above 0.
    """

    classes: Sequence[str]
    losses: Sequence[LossName] = ("cross_entropy",)
    class_weights: Sequence[float] | None = None
    name: str = "segmentation"
    monitor: Monitor = Monitor("miou", "max", least=8)  # a mask holds many labels
    columns: Sequence[str] = ("miou",)
    void: int | None = VOID

    def __post_init__(self) -> None:
        known = ("cross_entropy", "dice", "focal")
        if not self.losses or any(name not in known for name in self.losses):
            raise UserError(f"loss={list(self.losses)}: give one or more of {', '.join(known)}")
        weights = self.class_weights
        if weights is not None and not _are_weights(weights, len(self.classes)):
            raise UserError(
                f"class_weights={weights}: give one number a class, none negative and not all 0; "
                f"there are {len(self.classes)} ({', '.join(self.classes)})"
            )

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum of the losses of logits (B, K, H, W) against class indices (B, H, W)."""
        logits, labels = two_or_more(logits.float()), labels.long()
        return torch.stack([loss(logits, labels) for loss in self._label_losses]).sum()

    @cached_property
    def _label_losses(self) -> list[Callable[[Tensor, Tensor], Tensor]]:
        focal = FocalLoss("multiclass", ignore_index=VOID, reduction="sum")
        made: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "cross_entropy": self._cross_entropy,
            "dice": DiceLoss("multiclass", ignore_index=VOID),
            "focal": partial(_over_labelled, focal),
        }
        return [made[name] for name in self.losses]

    @cached_property
    def _weight(self) -> Tensor:
        weights = torch.tensor(self.class_weights or [1.0] * len(self.classes), dtype=torch.float32)
        return weights.pin_memory() if torch.cuda.is_available() else weights

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over labelled pixels; 0 where a batch has none."""
        labelled = labels != VOID
        weight = self._weight.to(logits.device, non_blocking=True)
        total = F.cross_entropy(logits, labels, weight, ignore_index=VOID, reduction="sum")
        return total / (
            weight[labels.where(labelled, labels.new_zeros(()))] * labelled
        ).sum().clamp_min(1e-8)

    def as_labels(self, labels: Tensor, images: Tensor) -> Tensor:
        """Masks (B, H, W) of class indices and void; one channel (B, 1, H, W) is taken off.

        Raises:
            UserError: they are no masks of the images' size, or a class is out of range.
        """
        masks = labels[:, 0] if labels.ndim == 4 and labels.shape[1] == 1 else labels
        if masks.shape[1:] != images.shape[-2:] or masks.is_floating_point():
            raise UserError(
                f"masks are {labels.dtype} {tuple(labels.shape[1:])}, their images "
                f"{tuple(images.shape[1:])}; expected class indices, whole numbers (H, W)"
            )
        wrong = masks[(masks < 0) | ((masks >= len(self.classes)) & (masks != VOID))]
        if len(wrong):
            raise UserError(
                f"a mask holds {wrong[0].item()}: the networks know {len(self.classes)} classes, "
                f"0 to {len(self.classes) - 1}; {VOID} is for pixels without a label (where that "
                "is 0 and classes count from 1, give the uint8 mask less 1)"
            )
        return masks

    def metrics(self) -> MetricCollection:
        """Mean IoU, Dice, pixel accuracy, IoU by class, and the published per-image mean IoU."""
        return MetricCollection(
            {
                "scores": SegmentationScores(self.classes),
                "miou_paper": PublishedMeanIoU(len(self.classes)),
            },
            compute_groups=False,
        )
