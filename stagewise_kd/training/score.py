"""The figures of networks over a whole split."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.loaders import eval_loader
from stagewise_kd.methods.losses import two_or_more
from stagewise_kd.networks.cpu_convolutions import fast_convolutions
from stagewise_kd.system.precision import autocast
from stagewise_kd.training.setup import Setup

Predict = Callable[[Tensor], Tensor]
AGREEMENT = "agreement"
TEACHER = "teacher"


def scores(nets: Mapping[str, Predict], data: Any, setup: Setup) -> dict[str, dict[str, float]]:
    """The task's metrics of networks over a whole split, which is read once.

    Args:
        nets: images as networks take them to logits, by name. Beside one called "teacher" the
            others get their "agreement": the share of images, or pixels, for which both choose
            the same class.
        data: the split; without labels the agreement is all that there is.
        setup: the task, and how images are loaded.

    Returns:
        Figures in [0, 1] by name, for each network.
    """
    device = setup.device
    labelled = setup.data.has_labels(data)
    metrics = {name: setup.task.metrics().to(device) for name in nets if labelled}
    same = {
        name: torch.zeros((), dtype=torch.long, device=device) for name in nets if TEACHER in nets
    }
    if labelled:
        same.pop(TEACHER, None)
    count = 0
    fast = fast_convolutions(*(net for net in nets.values() if isinstance(net, nn.Module)))
    with fast, torch.no_grad(), autocast(setup.fitting.precision, device):
        for batch in eval_loader(data, setup.at_once, setup.fitting.workers):
            images = unit_images(batch.image.to(device, non_blocking=True))
            logits = {name: predict(images).float() for name, predict in nets.items()}
            chosen = {name: two_or_more(found).argmax(dim=1) for name, found in logits.items()}
            for name, metric in metrics.items():
                metric.update(logits[name], batch.labels.to(device))
            for name, total in same.items():
                total += (chosen[name] == chosen[TEACHER]).sum()
            count += next(iter(chosen.values())).numel()
    found = {name: metrics[name].compute() if name in metrics else {} for name in nets}
    for name, total in same.items():
        found[name] |= {AGREEMENT: total / max(count, 1)}
    return {
        name: {key: round(value.item(), 6) for key, value in figures.items()}
        for name, figures in found.items()
    }
