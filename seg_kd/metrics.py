"""Segmentation metrics over a whole data set, and the published per-image one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from seg_kd.masks import VOID
from stagewise_kd.methods.losses import two_or_more


def overlaps(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hits, and pixels in truth and in prediction, by class.

    Args:
        matrix: confusion matrices (…, K, K), truth along the rows.

    Returns:
        Three tensors (…, K).
    """
    return matrix.diagonal(dim1=-2, dim2=-1), matrix.sum(-1), matrix.sum(-2)


class SegmentationScores(MulticlassConfusionMatrix):
    """Mean IoU, Dice, pixel accuracy and the IoU of each class, from one confusion matrix.

    The matrix counts all pixels of the data set that have a label. Classes that no label names are
    left out of every mean.

    Args:
        classes: class names.
    """

    def __init__(self, classes: Sequence[str], **options: Any) -> None:
        # Masks are in range since they were read; checking each batch would halt a GPU.
        super().__init__(len(classes), ignore_index=VOID, validate_args=False, **options)
        self.class_names = list(classes)

    def update(self, logits: Tensor, masks: Tensor) -> None:
        """Count logits (B, K, H, W) against class indices (B, H, W)."""
        super().update(two_or_more(logits).argmax(dim=1), masks.long())

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """The figures by name, fractions in [0, 1]."""
        hits, truth, predicted = overlaps(self.confmat.cpu().double())  # MPS has no double
        there = truth > 0
        iou = hits / (truth + predicted - hits).clamp_min(1)
        dice = 2 * hits / (truth + predicted).clamp_min(1)
        by_class = {
            f"iou/{name}": iou[index] for index, name in enumerate(self.class_names) if there[index]
        }
        found = {
            "miou": iou[there].mean() if there.any() else iou.sum(),
            "dice": dice[there].mean() if there.any() else dice.sum(),
            "pixel_accuracy": hits.sum() / truth.sum().clamp_min(1),
            **by_class,
        }
        return {name: value.float().to(self.device) for name, value in found.items()}


class PublishedMeanIoU(Metric):
    """Mean IoU of each image with absent classes counted as 1, averaged over images.

    As in the research code of Kulkarni et al. (arXiv 1911.06786): higher than the mean IoU of the
    data set, and for comparison with published figures only.
    """

    total: Tensor
    images: Tensor

    def __init__(self, classes: int, **options: Any) -> None:
        super().__init__(**options)
        self.classes = classes
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, logits: Tensor, masks: Tensor) -> None:
        """Add up logits (B, K, H, W) against class indices (B, H, W)."""
        masks, n = masks.long().flatten(1), self.classes
        pairs = masks * n + two_or_more(logits).argmax(dim=1).flatten(1)
        place = torch.arange(len(masks), device=masks.device)[:, None] * n * n + pairs
        counts = torch.bincount(place[masks != VOID], minlength=len(masks) * n * n)
        hits, truth, predicted = overlaps(counts.view(-1, n, n).float())
        union = truth + predicted - hits
        iou = torch.where(union > 0, hits / union.clamp_min(1), 1.0)
        self.total += iou.mean(dim=1).sum()
        self.images += len(masks)

    def compute(self) -> Tensor:
        """The mean over images."""
        return self.total / self.images
