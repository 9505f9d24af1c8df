"""A user's own data sets and loaders as the splits of a run."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms.v2 import functional as v2

from stagewise_kd.data.loaders import Data, View
from stagewise_kd.data.splits import split_hash, split_train, val_count
from stagewise_kd.system.errors import UserError

Given = Dataset[Any] | DataLoader[Any]
WHOLE = -1  # the epoch of the view that validates


class Loading(NamedTuple):
    """How samples are loaded: a loader's own way where one was given."""

    batch_size: int
    workers: int


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
        """A batch: images (B, C, H, W) and labels (B, …).

        Raises:
            UserError: what the data set gives is no image, or images differ in size.
        """
        try:
            batch = self._collate(samples)
        except (TypeError, RuntimeError) as error:
            raise UserError(
                f"samples that make no batch: {str(error).splitlines()[0]}; the data set gives "
                "images of one size as tensors (C, H, W), or pairs of such an image and a label"
            ) from None
        images, *labels = batch if isinstance(batch, list | tuple) else (batch,)
        if not isinstance(images, Tensor) or images.ndim != 4 or len(labels) > 1:
            raise UserError(
                f"a sample is {_told(batch)}; expected an image as a tensor (C, H, W), or a pair "
                "of such an image and a label"
            )
        return images, torch.as_tensor(labels[0]) if labels else torch.zeros(len(images))

    def has_labels(self) -> bool:
        """Whether samples are pairs."""
        batch = self._collate(self.__getitems__([0]))
        return isinstance(batch, list | tuple) and len(batch) > 1


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


def own_data(train: Given, val: Given | None, test: Given | None, seed: int) -> Data:
    """The splits of a run from a user's data sets.

    Args:
        train: what the student learns from.
        val: what epochs are chosen on; None for a part of train, a tenth and at most 2,000 samples,
            drawn by the seed and balanced where the data set tells its `targets`.
        test: what is reported; None for val.
        seed: of the run.

    Raises:
        UserError: a data set is none, is empty, or gives no images; or val is labelled otherwise
            than train.
    """
    named = {"train": train, "val": val, "test": test}
    numbers = {name: range(_count(name, data)) for name, data in named.items() if data is not None}
    chosen: dict[str, Sequence[int]] = dict(numbers)
    if val is None:
        chosen["train"], chosen["val"] = _held_out(_dataset(train), seed)
    parts = {name: _own(named[name] or train, chosen[name], seed) for name in chosen}
    labelled = {name: part.has_labels() for name, part in parts.items()}
    if len({*labelled.values()}) > 1:
        told = ", ".join(f"{name} {'with' if has else 'without'}" for name, has in labelled.items())
        raise UserError(f"samples with and without labels: {told}; give all splits alike")
    names = {name: [str(number) for number in chosen[name]] for name in chosen}
    return Data(
        parts["train"],
        parts["val"],
        parts.get("test", parts["val"]),
        tuple(parts["val"][0][0].shape),
        split_hash(names),
        names,
        labelled=labelled["train"],
    )


def loading(train: Given, batch_size: int, workers: int) -> Loading:
    """Batch size and worker processes: those of a loader, else as given."""
    if not isinstance(train, DataLoader):
        return Loading(batch_size, workers)
    return Loading(train.batch_size or batch_size, train.num_workers)


def class_names(train: Given, count: int) -> list[str]:
    """The classes as the data set names them, else by their numbers; one alone stands for two."""
    names = getattr(_dataset(train), "classes", None) or ()
    fits = not isinstance(names, str) and len(names) == count
    return [str(name) for name in (names if fits else range(max(count, 2)))]


def _dataset(given: Given) -> Any:
    return given.dataset if isinstance(given, DataLoader) else given


def _own(given: Given, numbers: Sequence[int], seed: int) -> Own:
    collate = given.collate_fn if isinstance(given, DataLoader) else default_collate
    return Own(_dataset(given), numbers, seed, collate)


def _count(name: str, given: Given) -> int:
    dataset = _dataset(given)
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise UserError(
            f"{name} is a {type(given).__name__}; expected a data set with __len__ and "
            "__getitem__, or a DataLoader over one"
        )
    if not len(dataset):
        raise UserError(f"{name} is empty; give at least one sample")
    return len(dataset)


def _held_out(dataset: Any, seed: int) -> tuple[list[int], list[int]]:
    """The numbers of the samples to train on, and of those held out."""
    count = len(dataset)
    if count < 2:
        raise UserError(f"train has {count} sample; give val=, or at least 2 to hold one out")
    targets = getattr(dataset, "targets", None)
    labels = (
        [int(t) for t in targets] if targets is not None and len(targets) == count else [0] * count
    )
    names = [f"{number:012d}" for number in range(count)]
    train, held_out = split_train(names, labels, max(1, val_count(count)), seed)
    return sorted(map(int, train)), sorted(map(int, held_out))
