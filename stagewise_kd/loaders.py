"""Loaders whose every draw follows from the seed, the epoch and the sample."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from stagewise_kd.distributed import rank, world_size


class View(NamedTuple):
    """One augmented view of one sample; the same in every stage."""

    epoch: int
    sample: int

    def seed(self, run: int | None) -> int:
        """Seed of this view's augmentation in a run of that seed, whatever was drawn before."""
        return hash((run, *self)) % 2**63


@dataclass(frozen=True)
class Data:
    """The splits of one run; train and images are indexed by `View`, the others by number.

    Args:
        train: the labelled samples, (image uint8 (C, H, W), label).
        val: epochs are chosen on it.
        test: scored once, at the end.
        shape: channels, height and width of an image.
        split_hash: of `splits`.
        splits: file names of each split.
        images: samples for the stages that see no label, whatever their labels are; None: train.
    """

    train: Dataset[Any]
    val: Dataset[Any]
    test: Dataset[Any]
    shape: tuple[int, int, int]
    split_hash: str
    splits: dict[str, list[str]]
    images: Dataset[Any] | None = None


class ViewSampler(DistributedSampler[Any]):
    """Shuffles anew in each epoch, by seed and epoch alone, and yields views."""

    def __iter__(self) -> Iterator[Any]:
        return (View(self.epoch, index) for index in super().__iter__())


class ShareSampler(Sampler[int]):
    """Every world-size-th sample: unlike DistributedSampler, no sample comes twice."""

    def __init__(self, count: int) -> None:
        self._share = range(rank(), count, world_size())

    def __iter__(self) -> Iterator[int]:
        return iter(self._share)

    def __len__(self) -> int:
        return len(self._share)


def train_loader(
    dataset: Dataset[Any], batch_size: int, seed: int, workers: int
) -> DataLoader[Any]:
    """Shuffled views; the incomplete last batch is left out unless it is the only one."""
    sampler = ViewSampler(dataset, world_size(), rank(), shuffle=True, seed=seed)
    return _loader(dataset, batch_size, workers, sampler, drop_last=len(sampler) >= batch_size)


def val_loader(dataset: Dataset[Any], batch_size: int, workers: int) -> DataLoader[Any]:
    """This process's share of the samples, in order."""
    return _loader(dataset, batch_size, workers, ShareSampler(len(dataset)))  # type: ignore[arg-type]


def eval_loader(dataset: Dataset[Any], batch_size: int, workers: int) -> DataLoader[Any]:
    """All samples, in order, in every process."""
    return _loader(dataset, batch_size, workers, None)


def _loader(
    dataset: Dataset[Any],
    batch_size: int,
    workers: int,
    sampler: Sampler[Any] | None,
    drop_last: bool = False,
) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        drop_last=drop_last,
    )
