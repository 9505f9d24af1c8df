"""What data a run is of, told by its content."""

import hashlib
from typing import Any

from stagewise_kd.data.image_files import content
from stagewise_kd.data.loaders import Data
from stagewise_kd.data.samples import Source

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


def source_hash(source: Source) -> str:
    """A number for the names and the content of a data set, whatever of it is used."""
    digest = hashlib.sha256(repr(source.classes).encode())
    for part in (source.train, source.val, source.test):
        if part is not None:
            digest.update(repr(part.names).encode())
            count = len(part.names)
            looked_at = min(count, MOST)
            for number in (place * count // looked_at for place in range(looked_at)):
                digest.update(content(part.images, number) + content(part.labels, number))
    return digest.hexdigest()


def counts(data: Data) -> str:
    """How many samples each split has, for a reader."""
    found = {split: getattr(data, split) for split in SPLITS}
    return ", ".join(f"{name} {len(part)}" for name, part in found.items() if part is not None)
