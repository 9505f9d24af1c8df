"""What data a run is of, told by its content."""

import hashlib
from typing import Any

import torch

from stagewise_kd.data.loaders import Data

SAMPLED = 64  # of each split: enough to tell other data, few enough to take no time


def content_hash(data: Data) -> str:
    """A number for the samples of all splits: their count, and the content of some of them.

    Images are taken as they lie on disk where the split tells them so, else as one view of each.
    """
    digest = hashlib.sha256()
    for split in ("train", "val", "test", "images"):
        samples: Any = getattr(data, split)
        count = 0 if samples is None else len(samples)
        digest.update(f"{split} {count}\n".encode())
        for place in range(min(count, SAMPLED)):
            number = place * count // min(count, SAMPLED)
            for part in samples.raw(number) if hasattr(samples, "raw") else samples[number]:
                tensor = torch.as_tensor(part).contiguous()
                digest.update(f"{tuple(tensor.shape)} {tensor.dtype} ".encode())
                digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
