"""What data a run is of, told by its content."""

import hashlib
from typing import Any

from stagewise_kd.data.image_files import content
from stagewise_kd.data.loaders import Data

SPLITS = ("train", "val", "test", "images")
MOST = 20_000  # samples of a split that are looked at; more are spread evenly
MOST_DRAWN = 64  # of a data set of the user's own, whose samples have to be made


def content_hash(data: Data) -> str:
    """A number for the samples of all splits, as they lie on disk where the splits tell that."""
    digest = hashlib.sha256()
    for split in SPLITS:
        samples: Any = getattr(data, split)
        known = hasattr(samples, "content")
        count = 0 if samples is None else len(samples)
        looked_at = min(count, MOST if known else MOST_DRAWN)
        digest.update(f"{split} {count}\n".encode())
        for place in range(looked_at):
            number = place * count // looked_at
            drawn = () if known else samples[number]
            for part in [samples.content(number)] if known else [content([p], 0) for p in drawn]:
                digest.update(part)
    return digest.hexdigest()


def counts(data: Data) -> str:
    """How many samples each split has, for a reader."""
    found = {split: getattr(data, split) for split in SPLITS}
    return ", ".join(f"{name} {len(part)}" for name, part in found.items() if part is not None)
