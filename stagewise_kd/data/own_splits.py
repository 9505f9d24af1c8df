"""The splits of a run from a user's own data sets and loaders."""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from stagewise_kd.data.identity import own_hash
from stagewise_kd.data.loaders import Data
from stagewise_kd.data.own import AsLabels, Joined, Own
from stagewise_kd.data.splits import split_hash, split_train, val_count
from stagewise_kd.system.errors import UserError

Given = Dataset[Any] | DataLoader[Any]


class Loading(NamedTuple):
    """How samples are loaded: a loader's own way where one was given."""

    batch_size: int
    workers: int


def own_data(
    train: Given,
    val: Given | None,
    test: Given | None,
    seed: int,
    unlabelled: Given | None = None,
) -> Data:
    """The splits of a run from a user's data sets.

    Args:
        train: what the student learns from.
        val: what epochs are chosen on; None for a part of train, a tenth and at most 2,000 samples,
            drawn by the seed and balanced where the data set tells its `targets`.
        test: what is reported; None for val.
        seed: of the run.
        unlabelled: further images, for what compares with the teacher.

    Raises:
        UserError: a data set is none, is empty, or gives no images; or splits are not alike.
    """
    named = {"train": train, "val": val, "test": test, "unlabelled": unlabelled}
    numbers = {name: range(_count(name, data)) for name, data in named.items() if data is not None}
    chosen: dict[str, Sequence[int]] = dict(numbers)
    if val is None:
        chosen["train"], chosen["val"] = _held_out(_dataset(train), seed)
    given = {name: train if named[name] is None else named[name] for name in chosen}
    parts = {name: _own(given[name], chosen[name], seed) for name in chosen}
    _check_alike(parts)
    more = parts.pop("unlabelled", None)
    labelled = {name: part.has_labels() for name, part in parts.items()}
    if len({*labelled.values()}) > 1:
        told = ", ".join(f"{name} {'with' if has else 'without'}" for name, has in labelled.items())
        raise UserError(f"samples with and without labels: {told}; give all splits alike")
    if more and not labelled["train"]:
        raise UserError("unlabelled: train has no labels either; give all images as train")
    names = {name: [str(number) for number in chosen[name]] for name in chosen}
    return Data(
        parts["train"],
        parts["val"],
        parts.get("test", parts["val"]),
        tuple(parts["val"][0][0].shape),
        split_hash(names),
        names,
        more and Joined(parts["train"], more),
        labelled=labelled["train"],
    )


def own_images(given: Given | Tensor, seed: int, most: int) -> Own:
    """Some samples of a user's data set, in the order in which they lie there.

    Args:
        given: a data set, a loader over one, or a tensor of images.
        seed: by which they are drawn.
        most: how many.

    Raises:
        UserError: the data set is none, is empty, or gives no images.
    """
    numbers = range(_count("images", given))
    drawn = sorted(random.Random(seed).sample(numbers, min(most, len(numbers))))
    return _own(given, drawn, seed)


def dataset_hash(*given: Given | None) -> str:
    """A number for the content of data sets, whatever of them a seed holds out.

    Args:
        given: as `own_data` takes them; None where there is none.
    """
    numbers = [None if part is None else range(len(_dataset(part))) for part in given]
    return own_hash(
        *(n if n is None else _own(part, n, 0) for part, n in zip(given, numbers, strict=True))
    )


def check_labels(data: Data, as_labels: AsLabels, void: int | None = None) -> None:
    """Let the task take the labels of every batch, beginning with the first sample of each split.

    Args:
        data: from `own_data`.
        as_labels: labels as the task's loss takes them, from labels and images.
        void: what stands for no label; None: -1.

    Raises:
        UserError: those are no labels of the task.
    """
    for split in {id(part): part for part in (data.train, data.val, data.test)}.values():
        if isinstance(split, Own) and data.labelled:
            split.as_labels = as_labels
            split.collate(split.__getitems__([0]))
    if isinstance(data.images, Joined) and void is not None:
        data.images.blank = void


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


def _check_alike(parts: dict[str, Own]) -> None:
    """See that images of all splits are of one size and kind."""
    first = {name: part[0][0] for name, part in parts.items()}
    kinds = {name: (tuple(i.shape), i.is_floating_point()) for name, i in first.items()}
    if len({*kinds.values()}) > 1:
        told = ", ".join(f"{name} {tuple(i.shape)} {i.dtype}" for name, i in first.items())
        raise UserError(f"images that are not alike: {told}; give all splits the same transforms")


def _dataset(given: Any) -> Any:
    return given.dataset if isinstance(given, DataLoader) else given


def _own(given: Any, numbers: Sequence[int], seed: int) -> Own:
    collate = given.collate_fn if isinstance(given, DataLoader) else default_collate
    return Own(_dataset(given), numbers, seed, collate)


def _count(name: str, given: Any) -> int:
    dataset = _dataset(given)
    if isinstance(given, DataLoader) and not _is_plain(given):
        raise UserError(
            f"{name}: a DataLoader with a sampler of its own, a {type(given.sampler).__name__}; "
            "samples are drawn by the seed: give torch.utils.data.Subset(dataset, indices)"
        )
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise UserError(
            f"{name} is a {type(given).__name__}; expected a data set with __len__ and "
            "__getitem__, or a DataLoader over one"
        )
    if not len(dataset):
        raise UserError(f"{name} is empty; give at least one sample")
    return len(dataset)


def _is_plain(loader: DataLoader[Any]) -> bool:
    """Whether a loader takes every sample once, in whatever order."""
    plain = isinstance(loader.sampler, RandomSampler | SequentialSampler)
    return plain and type(loader.batch_sampler) is BatchSampler


def _held_out(dataset: Any, seed: int) -> tuple[list[int], list[int]]:
    """The numbers of the samples to train on, and of those held out."""
    count = len(dataset)
    if count < 2:
        raise UserError(f"train has {count} sample; give val=, or at least 2 to hold one out")
    try:
        labels = [int(target) for target in dataset.targets]
    except (AttributeError, TypeError, ValueError):  # none, or names of files
        labels = []
    labels = labels if len(labels) == count else [0] * count
    names = [f"{number:012d}" for number in range(count)]
    train, held_out = split_train(names, labels, max(1, val_count(count)), seed)
    if not held_out:
        raise UserError(f"train has one sample of each of {count} classes; give val=")
    return sorted(map(int, train)), sorted(map(int, held_out))
