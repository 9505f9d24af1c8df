"""The samples of a user's own data set."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    Dataset,
    default_collate,
)
from torchvision.transforms.v2 import functional as v2

from stagewise_kd.data.samples import UNKNOWN
from stagewise_kd.data.sampling import View
from stagewise_kd.system.errors import UserError, first_line

AsLabels = Callable[[Tensor, Tensor], Tensor]
WHOLE = -1  # the epoch of the view that validates


class Own(Dataset[Any]):
    """Samples of a map-style data set: images, or pairs of image and label.

    Transforms in it may be random: torch's, numpy's and Python's generators are set around each
    sample by its view, and put back, so that a view is the same in every stage.

    Args:
        dataset: gives images as tensors (C, H, W), uint8 or as the network takes them, or as PIL.
        numbers: which of its samples.
        seed: of the run.
        collate: makes a batch of several samples.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        numbers: Sequence[int],
        seed: int,
        collate: Callable[[list[Any]], Any] = default_collate,
    ) -> None:
        self._dataset = dataset
        self._numbers = numbers
        self._seed = seed
        self._collate = collate
        self.as_labels: AsLabels | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, key: View | int) -> tuple[Tensor, Tensor]:
        """One image (C, H, W) and its label; 0 where there is none."""
        images, labels = self.collate(self.__getitems__([key]))
        return images[0], labels[0]

    def __getitems__(self, keys: Sequence[View | int]) -> list[Any]:
        return [self._sample(key if isinstance(key, View) else View(WHOLE, key)) for key in keys]

    def _sample(self, view: View) -> Any:
        with seeded(view.seed(self._seed)):
            found = self._dataset[self._numbers[view.sample]]
        if self._collate is not default_collate:
            return found
        parts = found if isinstance(found, list | tuple) else (found,)
        return tuple(v2.pil_to_tensor(p) if isinstance(p, Image.Image) else p for p in parts)

    def collate(self, samples: list[Any]) -> tuple[Tensor, Tensor]:
        """A batch: images (B, C, H, W) and labels (B, …) as the task takes them.

        Raises:
            UserError: what the data set gives is no image, images differ in size, or labels are
                none of the task.
        """
        images, *labels = batch = self._batched(samples)
        if not isinstance(images, Tensor) or images.ndim != 4 or len(labels) > 1:
            raise UserError(
                f"a sample is {_told(batch)}; expected an image as a tensor (C, H, W), or a pair "
                "of such an image and a label"
            )
        if len(images) != len(samples):
            raise UserError(
                f"a batch of {len(images)} of {len(samples)} samples; the collate function must "
                "keep them all, for features are cached sample by sample"
            )
        if not labels:
            return images, torch.zeros(len(images))
        return images, self.as_labels(labels[0], images) if self.as_labels else labels[0]

    def has_labels(self) -> bool:
        """Whether samples are pairs."""
        return len(self._batched(self.__getitems__([0]))) > 1

    def _batched(self, samples: list[Any]) -> list[Any]:
        try:
            batch = self._collate(samples)
            images, *rest = batch if isinstance(batch, list | tuple) else [batch]
            if isinstance(images, Tensor):  # of a GPU, or as numpy makes them
                images = images.to("cpu", torch.float32 if images.is_floating_point() else None)
            return [images, *(torch.as_tensor(part).cpu() for part in rest)]
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"samples that make no batch: {first_line(error)}; the data set gives images of "
                "one size as tensors (C, H, W), or pairs of such an image and a label (a number, "
                "or a mask)"
            ) from None


class Joined(Dataset[Any]):
    """Samples with labels, then further images, whose labels are not looked at.

    Args:
        train: the samples.
        more: the images.
    """

    def __init__(self, train: Own, more: Own) -> None:
        self._train = train
        self._more = more
        self.blank = UNKNOWN  # stands for no label

    def __len__(self) -> int:
        return len(self._train) + len(self._more)

    def __getitem__(self, key: View | int) -> tuple[Tensor, Tensor]:
        """One image (C, H, W) and its label, in which all is blank where it has none."""
        view = key if isinstance(key, View) else View(WHOLE, key)
        if view.sample < len(self._train):
            return self._train[view]
        image, _ = self._more[view._replace(sample=view.sample - len(self._train))]
        return image, self._no_label

    @cached_property
    def _no_label(self) -> Tensor:
        return torch.full_like(self._train[0][1], self.blank)


def _told(batch: Any) -> str:
    if isinstance(batch, Tensor):
        return f"a tensor {tuple(batch.shape[1:])}"
    if isinstance(batch, list | tuple):
        parts = [_told(part) for part in batch]
        return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"
    return f"a {type(batch).__name__}"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators that transforms draw from, and put them back."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
