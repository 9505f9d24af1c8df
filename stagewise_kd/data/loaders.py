"""Loaders whose every draw follows from the seed, the epoch and the sample."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from stagewise_kd.data.pace import Pace
from stagewise_kd.data.sampling import ShareSampler, View, ViewSampler, share
from stagewise_kd.networks.blocks import IMAGE

LABELS = "labels"
Owner = Literal["data", "student", "teacher"]


Key = View | int


@dataclass(frozen=True)
class Data:
    """The splits of one run; train and images are indexed by `View`, the others by number.

    Args:
        train: the labelled samples, (image (C, H, W), label).
        val: epochs are chosen on it.
        test: scored once, at the end.
        shape: channels, height and width of an image.
        split_hash: of `splits`.
        splits: file names of each split.
        images: those of train and others without a label, for the stages that compare with the
            teacher; None: train.
        labelled: whether the labels of train, val and test mean anything.
        tested: whether those of test do, where the others do not.
        counts: of train, val and test the labels of each class, where somebody has counted.
    """

    train: Dataset[Any]
    val: Dataset[Any]
    test: Dataset[Any]
    shape: tuple[int, ...]
    split_hash: str
    splits: dict[str, list[str]]
    images: Dataset[Any] | None = None
    labelled: bool = True
    tested: bool = False
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def has_labels(self, split: Dataset[Any]) -> bool:
        """Whether the labels of a split mean anything."""
        return self.labelled or (self.tested and split is self.test)

    def for_stage(self, needs_labels: bool) -> tuple[str, Dataset[Any]]:
        """Name and samples of the split that a stage trains on."""
        if needs_labels or self.images is None:
            return "train", self.train
        return "images", self.images


class Batch(NamedTuple):
    """What a step starts from.

    Args:
        image: uint8, or float as networks take it, (B, C, H, W); None where nothing reads it.
        student: features of the student that are known already, by name.
        teacher: likewise of the teacher.
        labels: (B, …); zeros where nothing reads them.
    """

    image: Tensor | None
    student: dict[str, Tensor]
    teacher: dict[str, Tensor]
    labels: Tensor


class Column(NamedTuple):
    """Something that a step may start from: the data's image or labels, or a network's feature."""

    owner: Owner
    name: str


@dataclass(frozen=True)
class Rows:
    """One flat row a sample, (N, elements), and the shape that a row has in a batch."""

    table: Tensor
    shape: tuple[int, ...]

    def take(self, numbers: Tensor) -> Tensor:
        """The samples of these numbers; images and features come out channels last."""
        found = self.table.index_select(0, numbers.to(self.table.device, non_blocking=True))
        if len(self.shape) != 3:
            return found.view(-1, *self.shape)
        channels, height, width = self.shape
        return found.view(-1, height, width, channels).permute(0, 3, 1, 2)


class Feed(Dataset[Any]):
    """A split in batches: what is cached is read, the rest comes from the samples.

    Args:
        samples: (image, label) by `View` or number.
        cached: the table of each view, by its number, of each cached column; 0 is that of samples
            as they are.
        loads: whether anything has to come from the samples.
    """

    def __init__(
        self,
        samples: Dataset[Any],
        cached: Mapping[Column, Mapping[int, Rows]] | None = None,
        loads: bool = True,
    ) -> None:
        self.samples = samples
        self.cached = cached or {}
        self.loads = loads

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """The batch of samples or, all of one epoch, of views."""
        first = keys[0]
        view = first.epoch if isinstance(first, View) else 0
        numbers = torch.tensor([key.sample if isinstance(key, View) else key for key in keys])
        image, labels = self.load(keys) if self.loads else (None, torch.zeros(len(keys)))
        known: dict[str, dict[str, Tensor]] = {"student": {}, "teacher": {}, "data": {}}
        for column, views in self.cached.items():
            known[column.owner][column.name] = views[view].take(numbers)
        data = known.pop("data")
        return Batch(data.get(IMAGE, image), labels=data.get(LABELS, labels), **known)

    def load(self, keys: Sequence[Key]) -> tuple[Tensor, Tensor]:
        """Images and labels of samples or views, from the samples."""
        samples: Any = self.samples
        several = getattr(samples, "__getitems__", None)
        collate = getattr(samples, "collate", default_collate)
        image, labels = collate(several(keys) if several else [samples[key] for key in keys])
        return image, labels


def train_loader(
    dataset: Dataset[Any],
    batch_size: int,
    seed: int,
    workers: int,
    views: int | None = None,
    pace: Pace | None = None,
    start: int = 0,
) -> DataLoader[Any]:
    """Shuffled views; the incomplete last batch is left out unless it is the only one.

    Args:
        dataset: samples, or a `Feed` of them.
        batch_size: samples in a batch.
        seed: of the order.
        workers: processes that load.
        views: of a sample; None for a new one in every pass.
        pace: of the stage; None: every round is one pass.
        start: the first round.
    """
    count = share(len(dataset))  # type: ignore[arg-type]
    batch_size = min(batch_size, count)
    pace = pace or Pace(sys.maxsize, count // batch_size)
    sampler = ViewSampler(dataset, pace, batch_size, views, seed, start)
    return _loader(dataset, batch_size, workers, sampler)


def val_loader(dataset: Dataset[Any], batch_size: int, workers: int) -> DataLoader[Any]:
    """This process's share of the samples, in order."""
    return _loader(dataset, batch_size, workers, ShareSampler(len(dataset)))  # type: ignore[arg-type]


def eval_loader(
    dataset: Dataset[Any], batch_size: int, workers: int, view: int | None = None, step: int = 1
) -> DataLoader[Any]:
    """All samples, or every `step`-th, in order, in every process: as they are, or one view."""
    numbers = range(0, len(dataset), step)  # type: ignore[arg-type]
    keys: Any = numbers if view is None else [View(view, number) for number in numbers]
    return _loader(dataset, batch_size, workers, keys)


def _loader(dataset: Dataset[Any], batch_size: int, workers: int, sampler: Any) -> DataLoader[Any]:
    feed = dataset if isinstance(dataset, Feed) else Feed(dataset)
    workers = workers if feed.loads else 0  # reading from memory needs no help
    on_gpu = any(rows.table.is_cuda for views in feed.cached.values() for rows in views.values())
    return DataLoader(
        feed,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # not that of dropout: it draws when an epoch begins
        pin_memory=torch.cuda.is_available() and not on_gpu,
        collate_fn=_as_it_is,
    )


def _as_it_is(batch: Any) -> Any:
    return batch
