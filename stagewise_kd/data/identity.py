"""What data a run is of, told by its content."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stagewise_kd.data.image_files import content
from stagewise_kd.data.loaders import Data
from stagewise_kd.data.samples import Part, Source

SPLITS = ("train", "val", "test", "images")
MOST = 20_000  # samples of a split that are looked at; more are spread evenly
MOST_DRAWN = 64  # of a data set of the user's own, whose samples have to be made
Prints = Mapping[str, Mapping[int, tuple[str, str]]]
"""Of each split, by number of the sample, a number for its image and one for its label."""


def fingerprints(data: Data) -> Prints:
    """The content of the samples of all splits, as it lies on disk where the splits tell that."""
    found: dict[str, dict[int, tuple[str, str]]] = {}
    for split in SPLITS:
        samples: Any = getattr(data, split)
        if hasattr(samples, "part"):
            found[split] = dict(_of_part(samples.part))
        elif samples is not None:
            found[split] = _drawn(samples)
    return found


def content_hash(prints: Prints) -> str:
    """A number for all that was looked at."""
    return hashlib.sha256(repr(prints).encode()).hexdigest()


def source_hash(source: Source) -> str:
    """A number for the names and the content of a data set, whatever of it is used."""
    parts = [part for part in (source.train, source.val, source.test) if part is not None]
    told = [source.classes, *((part.names, [*_of_part(part)]) for part in parts)]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def own_hash(*given: Any) -> str:
    """The same for data sets of the user's own, as far as they are looked at.

    Args:
        given: samples by number, the same in every run; None where there are none.
    """
    told = [samples if samples is None else (len(samples), _drawn(samples)) for samples in given]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def counts(data: Data) -> str:
    """How many samples each split has, for a reader."""
    found = {split: getattr(data, split) for split in SPLITS}
    return ", ".join(f"{name} {len(part)}" for name, part in found.items() if part is not None)


def leaks(prints: Prints, names: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each of val and test that shows pictures which are in train too.

    Args:
        prints: of all splits.
        names: of their samples, in order.
    """
    train = {image: number for number, (image, _) in prints["train"].items()}
    lines = []
    for split in ("val", "test"):
        twice = [(n, train[image]) for n, (image, _) in prints[split].items() if image in train]
        if twice and split in names:
            here, there = names[split][twice[0][0]], names["train"][twice[0][1]]
            lines.append(
                f"{len(twice)} of {len(prints[split])} {split} images are in train too, such as "
                f"{here} ({there}): its figures flatter"
            )
    return lines


def _of_part(part: Part) -> Iterator[tuple[int, tuple[str, str]]]:
    for number in _spread(len(part.names), MOST):
        yield number, _both(content(part.images, number), content(part.labels, number))


def _drawn(samples: Any) -> dict[int, tuple[str, str]]:
    chosen = _spread(len(samples), MOST_DRAWN)
    return {n: _both(*(content([part], 0) for part in samples[n])) for n in chosen}


def _both(image: bytes, label: bytes) -> tuple[str, str]:
    return hashlib.sha256(image).hexdigest(), hashlib.sha256(label).hexdigest()


def _spread(count: int, most: int) -> list[int]:
    """Numbers below `count`, at most so many, spread evenly."""
    looked_at = min(count, most)
    return [place * count // looked_at for place in range(looked_at)]
