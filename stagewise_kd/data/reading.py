"""Reading the image files of a run before it begins."""

from bisect import bisect_right
from collections.abc import Iterable
from math import ceil
from typing import Any

from torch.utils.data import ConcatDataset

from stagewise_kd.data.image_files import FileImages, Images, Subset, raise_first

CHECKED = 20_000  # images that are not held: of more so many are decoded, spread evenly


def read_files(several: Iterable[Images]) -> None:
    """Decode what comes from files once, and hold it where it shall be held.

    Of more images than memory takes only some are looked at: a damaged one of the others is told
    of when it is used.

    Raises:
        UserError: names the files that cannot be read.
    """
    wanted: dict[FileImages, set[int]] = {}
    for images in several:
        for number in range(len(images)):
            files, place = _origin(images, number)
            if isinstance(files, FileImages):
                wanted.setdefault(files, set()).add(place)
    faults = []
    for files, found in wanted.items():
        step = 1 if files.keep else ceil(len(found) / CHECKED)
        faults += files.read(sorted(found)[::step])
    raise_first("cannot read every image; replace or delete", faults)


def _origin(images: Any, number: int) -> tuple[Any, int]:
    """What an image is taken from, and its number there."""
    while True:
        if isinstance(images, Subset):
            images, number = images.source(number)
        elif isinstance(images, ConcatDataset):
            which = bisect_right(images.cumulative_sizes, number)
            number -= images.cumulative_sizes[which - 1] if which else 0
            images = images.datasets[which]
        else:
            return images, number
