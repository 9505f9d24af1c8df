"""A network's figures over a whole split."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.loaders import eval_loader
from stagewise_kd.system.precision import autocast
from stagewise_kd.training.setup import Setup


def score(predict: Callable[[Tensor], Tensor], data: Any, setup: Setup) -> dict[str, float]:
    """The task's metrics of `predict`: images in [0, 1] to logits, over a whole split."""
    device = setup.device
    metrics = setup.task.metrics().to(device)
    loader = eval_loader(data, 4 * setup.fitting.batch_size, setup.fitting.workers)
    with torch.inference_mode(), autocast(setup.fitting.precision, device):
        for batch in loader:
            logits = predict(unit_images(batch.image.to(device, non_blocking=True)))
            metrics.update(logits.float(), batch.labels.to(device))
    return {name: round(value.item(), 6) for name, value in metrics.compute().items()}
