"""A data set as it lies on disk, and the samples of a split as a run draws them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from stagewise_kd.data.image_files import Images, Subset, places
from stagewise_kd.data.sampling import View

Sample = tuple[Tensor, Any]  # image uint8 (C, H, W) and label
Colour = tuple[int, int, int]
UNKNOWN = -1  # class of an image without a label
Transform = Callable[[Sequence[Sample], Sequence[int]], list[Sample]]
"""Samples as networks see them: each augmented by its seed, or as it is where there are none."""


@dataclass(frozen=True)
class Part:
    """One split as it lies on disk: names, uint8 images (C, H, W), a label for each.

    Args:
        names: of the samples.
        images: one a name.
        labels: likewise.
        pixels: of each label that is a mask the pixels by class, as counted when it was read.
    """

    names: list[str]
    images: Images
    labels: Images
    pixels: Sequence[Tensor] = ()

    def take(self, names: list[str]) -> "Part":
        """The named samples, in that order."""
        chosen = places(self.names, names)
        pixels = [self.pixels[place] for place in chosen] if self.pixels else ()
        return Part(names, Subset(self.images, chosen), Subset(self.labels, chosen), pixels)

    def __add__(self, other: "Part") -> "Part":
        """The samples of both."""
        return Part(
            self.names + other.names,
            ConcatDataset([self.images, other.images]),  # type: ignore[list-item]
            ConcatDataset([self.labels, other.labels]),  # type: ignore[list-item]
        )

    @property
    def groups(self) -> list[int]:
        """The class of each sample, by which splits are balanced; 0 where a label is a mask."""
        if not self.names or not isinstance(self.labels[0], int):
            return [0] * len(self.names)
        return [self.labels[index] for index in range(len(self.names))]

    def counts(self, classes: int) -> list[int]:
        """Labels of each class: images, or pixels of masks; empty where nobody has counted."""
        if self.pixels:
            return list(torch.stack([*self.pixels]).sum(dim=0).tolist())
        if not self.names or not isinstance(self.labels[0], int):
            return []
        found = Counter(self.groups)
        return [found[number] for number in range(classes)]


@dataclass(frozen=True)
class Source:
    """A data set: its classes, train and test, val where it brings one.

    Args:
        classes: names, by index.
        train: what students learn from; without samples where one is only scored.
        test: what is reported.
        val: what epochs are chosen on; None: a part of train.
        palette: a colour a class, of data sets whose labels are masks.
        blank: the label of an image that has none.
        labelled: whether images to learn from have one; else test may be empty, and val stands for
            it.
    """

    classes: list[str]
    train: Part
    test: Part
    val: Part | None = None
    palette: Sequence[Colour] | None = None
    blank: Any = UNKNOWN
    labelled: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of the first image."""
        return tuple((self.train if self.train.names else self.test).images[0].shape)

    def unlabelled(self, names: list[str], images: Images) -> Part:
        """Images without labels as a part."""
        return Part(names, images, Repeated(self.blank, len(names)))


class Repeated:
    """The same label for every image."""

    def __init__(self, label: Any, count: int) -> None:
        self._label = label
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        return self._label


class Samples(Dataset[Any]):
    """Images and labels; with a seed it is indexed by `View`, else by number.

    A view depends on the seed, the epoch and the sample alone, so it is the same in every stage,
    whichever process draws it, and however often the run was interrupted.
    """

    def __init__(self, part: Part, transform: Transform, seed: int | None = None) -> None:
        self.part = part
        self._transform = transform
        self._seed = seed

    def __len__(self) -> int:
        return len(self.part.names)

    def __getitem__(self, key: View | int) -> Sample:
        """An image uint8 (C, H, W) and its label."""
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[View | int]) -> list[Sample]:
        numbers = [key.sample if isinstance(key, View) else key for key in keys]
        found = [(self.part.images[n], self.part.labels[n]) for n in numbers]
        return self._transform(found, [k.seed(self._seed) for k in keys if isinstance(k, View)])
