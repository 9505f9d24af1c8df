"""Batches as networks take them."""

import torch
from torch import Tensor

from stagewise_kd.data.loaders import Batch
from stagewise_kd.networks.blocks import IMAGE


def unit_images(images: Tensor) -> Tensor:
    """Images (B, C, H, W) as float, channels last: uint8 in [0, 1], float as they are."""
    found = images.to(dtype=torch.float32, memory_format=torch.channels_last)
    return found if images.is_floating_point() else found.div_(255)


def ready(batch: Batch, mixed: bool) -> Batch:
    """A batch whose features include the image in [0, 1], all of them as the blocks take them.

    Args:
        batch: from a `Feed`, on the device.
        mixed: the networks run under autocast, and take features of any float type.
    """
    student, teacher = (
        known if mixed else {name: feature.float() for name, feature in known.items()}
        for known in (batch.student, batch.teacher)
    )
    image = {} if batch.image is None else {IMAGE: unit_images(batch.image)}
    return batch._replace(student=image | student, teacher=image | teacher)
